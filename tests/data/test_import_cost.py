"""Looking up readers and tokenizers imports torch at most, which tasks need: seen by modules, not by a clock."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"lightning", "datasets", "pyarrow", "pandas", "transformers", "babel", "PIL", "sklearn", "kornia"}
PROGRAM = """
import sys
from attnbuild.registry import names
import attnbuild.tasks.captioning.digit_scenes
import attnbuild.tasks.classification.cldr_languages
import attnbuild.tasks.classification.digits
import attnbuild.tasks.translation.cldr
assert "bpe" in names("tokenizer")
assert {"caption_table", "cldr", "coco", "digits", "hf", "image_folder", "table", "text"} <= set(names("data"))
assert "standard" in names("augmentation")
print(*sys.modules)
"""


def test_names_need_no_heavy_library():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert not HEAVY & set(run.stdout.split())
