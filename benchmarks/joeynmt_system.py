"""JoeyNMT as its users have it: a config, ``joeynmt train``, ``joeynmt test``; for `time_to_quality.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

__all__ = ["decode", "train_for"]

#: Sentences that its checkpoints are chosen by, by their perplexity.
WATCHED = 100
#: Words of an output, at most. While it trains, one: it would write all of WATCHED anew, 8 seconds of every 40.
LONGEST, LONGEST_IN_TRAINING = 60, 1
SIDES = {"src": "en", "trg": "de"}


def train_for(minutes: float, folder: Path, data: Path, options: dict[str, Any], threads: int, merges: int) -> None:
    """From raw text: its BPE, then updates for so many minutes; ``folder`` holds all of it afterwards.

    Args:
        minutes: from the first epoch's start on.
        folder: is made.
        data: holds train.en, train.de, val.en, ...
        options: of its config, by section: what a candidate does otherwise.
        threads: of the CPU.
        merges: of its BPE, learnt on both languages at once.
    """
    folder.mkdir(parents=True)
    learn_bpe(folder, data, merges)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(config_of(folder, data, options)), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "joeynmt", "train", str(config), "--skip-test"]
    with (folder / "typed.log").open("w", encoding="utf-8") as log:
        training = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert training.stdout is not None
        timer = threading.Timer(60 * minutes, training.send_signal, (signal.SIGKILL,))
        for line in training.stdout:
            log.write(line)
            if line.rstrip().endswith("EPOCH 1"):  # not the tenth
                timer.start()
        timer.cancel()
        training.wait()


def decode(folder: Path, beam: int, split: str, threads: int) -> list[str]:
    """What its best checkpoint writes for a split, "dev" or "test"."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["testing"] |= {"beam_size": beam, "beam_alpha": 1.0, "max_output_length": LONGEST}
    config["data"][{"dev": "test", "test": "dev"}[split]] = None
    told = folder / f"beam{beam}_{split}.yaml"
    told.write_text(yaml.safe_dump(config), encoding="utf-8")
    output = told.with_suffix("")
    command = [sys.executable, "-m", "joeynmt", "test", str(told), "--output-path", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return Path(f"{output}.{split}").read_text(encoding="utf-8").splitlines()


def learn_bpe(folder: Path, data: Path, merges: int) -> None:
    """Its merges, and the vocabulary of both sides in the order that it asks for."""
    from sacremoses import MosesTokenizer
    from subword_nmt import learn_bpe
    from subword_nmt.apply_bpe import BPE

    lines = []
    for language in SIDES.values():
        tokenizer = MosesTokenizer(lang=language)
        for line in (data / f"train.{language}").read_text(encoding="utf-8").splitlines():
            lines.append(tokenizer.tokenize(line, return_str=True, escape=False))
    with (folder / "codes").open("w", encoding="utf-8") as codes:
        learn_bpe.learn_bpe(lines, codes, merges)
    with (folder / "codes").open(encoding="utf-8") as codes:
        bpe = BPE(codes)
    tokens = sorted({token for line in lines for token in bpe.process_line(line).split()})
    special = ["<unk>", "<pad>", "<s>", "</s>"]
    (folder / "vocabulary.txt").write_text("\n".join([*special, *tokens]) + "\n", encoding="utf-8")


def config_of(folder: Path, data: Path, options: dict[str, Any]) -> dict[str, Any]:
    """All its options."""
    side = {
        **{"max_length": 100, "lowercase": False, "normalize": False, "level": "bpe"},
        **{"voc_file": str(folder / "vocabulary.txt"), "tokenizer_type": "subword-nmt"},
        "tokenizer_cfg": {"codes": str(folder / "codes"), "pretokenizer": "moses"},
    }
    part = {"type": "transformer", "dropout": 0.1, "layer_norm": "pre"}
    config = {
        **{"name": "multi30k", "joeynmt_version": "2.3.0", "use_cuda": False, "random_seed": 1},
        **{"model_dir": str(folder / "model"), "normalization": "tokens"},
        "data": {
            **{"train": str(data / "train"), "dev": str(data / "val"), "test": str(data / "test_2016_flickr")},
            **{"dataset_type": "plain", "sample_dev_subset": WATCHED},
            **{name: {"lang": language, **side} for name, language in SIDES.items()},
        },
        "training": {
            **{"optimizer": "adamw", "adam_betas": [0.9, 0.98], "scheduling": "warmupinversesquareroot"},
            **{"learning_rate": 0.001, "learning_rate_warmup": 200, "label_smoothing": 0.1, "clip_grad_norm": 1.0},
            **{"batch_size": 2048, "batch_type": "token", "normalization": "tokens", "loss": "crossentropy"},
            **{"epochs": 1000, "validation_freq": 250, "logging_freq": 50, "early_stopping_metric": "ppl"},
        },
        "testing": {
            **{"batch_size": 64, "batch_type": "sentence", "beam_size": 1, "eval_metrics": ["bleu"]},
            **{"sacrebleu_cfg": {"tokenize": "13a"}, "max_output_length": LONGEST_IN_TRAINING},
        },
        "model": {
            **{"initializer": "xavier_uniform", "embed_initializer": "xavier_uniform", "bias_initializer": "zeros"},
            **{"tied_embeddings": True, "tied_softmax": True, "encoder": dict(part), "decoder": dict(part)},
        },
    }
    return merged(config, options)


def merged(config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options in the place of those that the config has, section by section."""
    both = {name: merged(config.get(name, {}), value) for name, value in options.items() if isinstance(value, dict)}
    return {**config, **options, **both}
