"""Writing outputs token by token, left to right, without ever going back: greedy search and sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnbuild.generation.base import SearchPlace, StepDecoder, log_probabilities
from attnbuild.memory import Memory

__all__ = ["Choose", "Rollout", "roll_out"]

#: (log-probabilities (B', N, V), places of the B' sentences left in the whole batch, step) -> tokens (B', N)
Choose = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Rollout:
    """N outputs for each of B sentences.

    Attributes:
        tokens: (B, N, T), filled up with the pad token; end tokens left out.
        lengths: (B, N), tokens in each output.
        log_probs: (B, N), log-probability of each output, its end token included where it has one.
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor


def roll_out(
    decoder: StepDecoder, memory: Memory, place: SearchPlace, limits: Tensor, choose: Choose, width: int = 1
) -> Rollout:
    """Write ``width`` outputs a sentence, each next token as ``choose`` says.

    Args:
        decoder: gives the probability of the next token.
        memory: the encoded inputs of B sentences.
        place: the special tokens.
        limits: (B,) the most steps of each sentence.
        choose: picks the next tokens.
        width: outputs a sentence, N. They end one by one and leave the batch with the last of them.
    """
    state, device = decoder.start(memory), limits.device
    sentences = torch.arange(len(limits), device=device)
    if width > 1:
        state = state.reorder(sentences.repeat_interleave(width))
    tokens = torch.full((len(limits), width, int(limits.max())), place.pad_id, device=device)
    lengths = torch.zeros(len(limits), width, dtype=torch.long, device=device)
    log_probs = torch.zeros(len(limits), width, device=device)

    last = torch.full_like(lengths, place.bos_id)
    writing = torch.ones_like(lengths, dtype=torch.bool)
    step = 0
    while True:
        output = decoder.step(last.flatten(), state)
        state, scores = output.state, log_probabilities(output.logits, place).unflatten(0, last.shape)
        last = choose(scores, sentences, step)
        gain = scores.gather(-1, last.unsqueeze(-1)).squeeze(-1)
        log_probs[sentences] += torch.where(writing, gain, 0.0)
        writing = writing & (last != place.eos_id)
        tokens[sentences, :, step] = torch.where(writing, last, place.pad_id)
        lengths[sentences] += writing
        step += 1

        staying = writing.any(dim=1) & (limits[sentences] > step)
        if not staying.any():
            return Rollout(tokens, lengths, log_probs)
        if not staying.all():
            kept = staying.nonzero().squeeze(1)
            sentences, last, writing = sentences[kept], last[kept], writing[kept]
            state = state.keep(kept)
