"""ComfyUI workflows run by ComfyStream: the workflow in its classes (`prompt`), the nodes that join it to the stream
(`nodes`), its client in a thread of its own (`runner`), and the processor that inference knows (`processor`)."""
