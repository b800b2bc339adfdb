"""The processor is known by what the system tells of it."""

from __future__ import annotations

import pytest

from attnbuild import processor


@pytest.mark.parametrize(
    ("told", "family", "name"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", 26, "AMD EPYC"),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Intel(R) Xeon(R)\n\n", 0, "Intel(R) Xeon(R)"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", 0, "aarch64"),
    ],
)
def test_family_and_name(told, family, name, monkeypatch):
    monkeypatch.setattr(processor.Path, "read_text", lambda path, encoding: told)
    monkeypatch.setattr(processor.platform, "processor", lambda: "aarch64")
    assert (processor.amd_family(), processor.processor_name()) == (family, name)


def test_a_system_that_tells_nothing(monkeypatch):
    def nowhere(path, encoding):
        raise FileNotFoundError

    monkeypatch.setattr(processor.Path, "read_text", nowhere)
    assert processor.amd_family() == 0
    assert processor.processor_name()
