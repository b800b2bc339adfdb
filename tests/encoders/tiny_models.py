"""Small models of the transformers library with random weights, and their tokenizers, saved as a hub would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = ["the", "cat", "dog", "sat", "on", "mat", "a", "##s", "un", "##happy"]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def save_model(name: str, folder: Path, **options: Any) -> Any:
    """The model, in evaluation mode; its files are in the folder."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options)
    model = transformers.AutoModel.from_config(config)
    for module in model.modules():  # running means that are not those of a fresh layer
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    model.save_pretrained(folder)
    return model.eval()


def save_bert(folder: Path, **options: Any) -> Any:
    """A BERT over word pieces: (model, tokenizer)."""
    import transformers

    vocabulary = {token: number for number, token in enumerate(BERT_SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_input_names=BERT_INPUTS, **names
    )
    fast.save_pretrained(folder)
    model = save_model("Bert", folder, vocab_size=len(vocabulary), max_position_embeddings=12, **SMALL, **options)
    return model, fast


def save_roberta(folder: Path) -> Any:
    """A RoBERTa over byte pairs, whose special tokens have the names of ours: (model, tokenizer)."""
    import transformers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*ROBERTA_SPECIAL, *alphabet, "Ġt", "he", "Ġthe"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="<mask>", bos_token="<s>", eos_token="</s>", **names
    )
    fast.save_pretrained(folder)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    options = {"vocab_size": len(fast), "max_position_embeddings": 40, "type_vocab_size": 1}
    return save_model("Roberta", folder, **options, **ids, **SMALL), fast


def save_t5(folder: Path) -> Any:
    """A T5 over pieces of a unigram model, without a class token: (model, tokenizer)."""
    import transformers

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁the", -2.0), ("▁", -3.0), ("c", -4.0), ("a", -4.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    small = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 24, "vocab_size": len(pieces)}
    return save_model("T5", folder, **small), fast
