"""On a CUDA device: the same numbers as on the CPU, and a run from the command line (make test-gpu)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.properties.cases import CLAIMED, Case

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("preset", "kind"), CLAIMED, ids=["-".join(pair) for pair in CLAIMED])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 5e-2)])
def test_cuda_equals_the_cpu_in_double(preset: str, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    case = Case(preset, kind, queries=6, keys=6, lengths=[6, 3, 0])
    layer, (query, memory, padding) = case.build(), case.inputs()
    expected = layer(query, memory, key_padding_mask=padding)
    layer = layer.to("cuda", dtype)
    query = query.to("cuda", dtype)
    memory = None if memory is None else memory.to("cuda", dtype)
    output = layer(query, memory, key_padding_mask=padding.cuda())
    torch.testing.assert_close(output.double().cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_a_run_on_the_gpu(tmp_path: Path, trainer: str) -> None:
    from attnbuild.cli.main import main

    words = ["debug=fast", f"trainer={trainer}", "data.train=400", "data.validation=20", "data.test=20"]
    assert main(["train", *words, f"paths.outputs={tmp_path}"]) == 0
    (summary,) = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "ok"
