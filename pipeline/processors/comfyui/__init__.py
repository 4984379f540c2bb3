"""ComfyUI workflows as processors: what a workflow says (`workflow`), the engine that runs it (`engine`), the nodes
that join it to the stream (`nodes`), and the processor that inference knows (`processor`)."""
