"""Writes a checkpoint that ComfyUI takes for Stable Diffusion 1.5, as small as its detection allows, with random
weights from a fixed seed: `python tiny_checkpoint.py WORKSPACE FILE`. The shapes come from the engine's own classes."""

import json
import sys
from pathlib import Path

import torch


def main(workspace: Path, target: Path) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, str(workspace))
    from pipeline.processors.comfyui.host import import_torchvision

    import_torchvision()
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.ops
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    plain = comfy.ops.disable_weight_init
    with torch.no_grad(), torch.device("meta"):
        unet = UNetModel(
            image_size=32,
            in_channels=4,
            model_channels=320,
            out_channels=4,
            num_res_blocks=[1],
            channel_mult=[1],
            num_heads=8,
            num_head_channels=-1,
            use_spatial_transformer=True,
            transformer_depth=[1],
            transformer_depth_output=[1, 1],
            transformer_depth_middle=1,
            context_dim=768,
            use_linear_in_transformer=False,
            legacy=False,
            use_checkpoint=False,
            dtype=torch.float16,
            device="meta",
            operations=plain,
        )
        config = json.loads((workspace / "comfy/sd1_clip_config.json").read_text())
        text_encoder = CLIPTextModel(config, torch.float16, "meta", plain)
        vae = TAESD()
    weights = {
        **_named("model.diffusion_model.", _fill(unet.state_dict(), seed=1, std=0.02)),
        **_named("cond_stage_model.transformer.", _fill(text_encoder.state_dict(), seed=2, std=0.02)),
        **_named("first_stage_model.", _fill(vae.state_dict(), seed=3, std=0.05)),
    }
    weights.pop("cond_stage_model.transformer.text_projection.weight", None)
    save_file(weights, target)


def _named(prefix: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in weights.items()}


def _fill(shapes: dict[str, torch.Tensor], seed: int, std: float) -> dict[str, torch.Tensor]:
    """Weights as a fresh model has them: biases 0, norms 1, the rest small and random."""
    generator = torch.Generator().manual_seed(seed)
    filled = {}
    for key, shape in shapes.items():
        if not shape.is_floating_point():
            filled[key] = torch.arange(shape.numel()).reshape(shape.shape).to(shape.dtype)
        elif key.endswith("bias"):
            filled[key] = torch.zeros(shape.shape, dtype=torch.float16)
        elif "norm" in key or shape.ndim == 1:
            filled[key] = torch.ones(shape.shape, dtype=torch.float16)
        else:
            filled[key] = (torch.randn(shape.shape, generator=generator) * std).half()
    return filled


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
