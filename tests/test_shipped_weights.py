"""The weights that ship: small enough for a repository, and made for each other."""

from __future__ import annotations

from pathlib import Path

from dreamontage import storyboard
from dreamontage.models.codec import LinearCodec
from dreamontage.pipeline.upscale.model import folder_errors

ROOT = Path(__file__).parent.parent
NANO, SR = ROOT / "weights" / "nano", ROOT / "weights" / "nano-sr"


def test_no_file_is_larger_than_sixteen_megabytes() -> None:
    files = [path for path in (ROOT / "weights").rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_size > 16_000_000] == []


def test_the_super_resolution_model_is_for_nanos_autoencoder() -> None:
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (NANO / "vae" / name).read_bytes() == (SR / "vae" / name).read_bytes()
    assert LinearCodec.from_pretrained(NANO / "vae").finish is not None
    board = storyboard.load(ROOT / "examples" / "larger.yaml")
    assert folder_errors(board, NANO, SR) == []
    assert folder_errors(board, NANO, None) != []
