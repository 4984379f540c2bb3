"""A live workflow in ComfyStream's classes. Pure dictionaries: neither ComfyStream nor torch is needed."""

from pipeline.processors.comfyui.workflow import INPUT, OUTPUT, TEXT_OUTPUT, LiveWorkflow, Prompt, WorkflowError

LOAD, SAVE, SAVE_TEXT = "LoadTensor", "SaveTensor", "SaveTextTensor"
"""ComfyStream's names: its client refuses a workflow without them. The classes behind them are our own."""

_CLASSES = {INPUT: LOAD, OUTPUT: SAVE, TEXT_OUTPUT: SAVE_TEXT}


def stream_prompt(workflow: LiveWorkflow, number: int) -> Prompt:
    """What ComfyStream is given to run as its workflow `number`. Raises WorkflowError for what it cannot do."""
    if workflow.input is None:
        raise WorkflowError(
            "no node takes the stream's picture (PrimaryInputLoadImage, LoadImage or LoadTensor): ComfyStream refuses "
            "a workflow that makes pictures of nothing; `comfyui` runs it"
        )
    if workflow.output is None:
        raise WorkflowError(
            "no node takes a picture (PreviewImage, SaveImage or SaveTensor), and ComfyStream wants one; "
            "`comfyui` does without"
        )
    if workflow.counted:
        key, name = workflow.counted[0]
        raise WorkflowError(
            f"node {key} ({workflow.source[key]['class_type']}): input {name}: ComfyStream runs one and the same "
            "workflow for every frame, with no frame number in it; `comfyui` puts it in"
        )
    prompt = {
        key: {**node, "class_type": _CLASSES.get(node["class_type"], node["class_type"])}
        for key, node in workflow.prompt.items()
    }
    prompt[workflow.input] = {"class_type": LOAD, "inputs": {"workflow": number}}
    return prompt
