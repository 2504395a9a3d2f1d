"""From the hidden states of a sequence's tokens to the one vector that the head reads.

This file is copied to the Hub with every model, so it imports nothing but torch.
"""

from collections.abc import Sequence

import torch

SECTIONS = "sections"


def pool(
    hidden: torch.Tensor,
    attention_mask: torch.Tensor | None,
    pooling: str,
    offsets: torch.Tensor | None = None,
    in_response: torch.Tensor | None = None,
) -> torch.Tensor:
    """One vector a sequence: the last token's, the first token's, the mean over the tokens, or two such means.

    `"sections"` puts the mean over what comes before the response and the mean over the response side by side: in one
    mean over all tokens a long response leaves little of the question. A sequence without one of the two gets the mean
    over all its tokens in that place.

    Args:
        hidden: (B, T, H), or (1, T, H) packed.
        attention_mask: (B, T') with T' >= T (a cached prefix comes first); None when there is no padding.
        pooling: `"last"`, `"mean"`, `"cls"` or `"sections"`.
        offsets: (N + 1,) of packed sequences.
        in_response: for `"sections"`: (B, T), or (1, T) packed, see [`response_tokens`].

    Returns:
        (B, H), or (N, H) for packed input; for `"sections"` with 2 H columns.
    """
    device, length = hidden.device, hidden.shape[1]
    if attention_mask is None or offsets is not None:
        attention_mask = hidden.new_ones(hidden.shape[:2], dtype=torch.long)
    mask, positions = attention_mask[:, -length:].to(device), torch.arange(length, device=device)
    if pooling in ("last", "cls"):
        if offsets is not None:
            offsets = offsets.long()
            return hidden[0, offsets[1:] - 1] if pooling == "last" else hidden[0, offsets[:-1]]
        from_the_end = positions + 1 if pooling == "last" else length - positions
        return hidden[torch.arange(len(hidden), device=device), (mask * from_the_end).argmax(dim=1)]
    packed = None if offsets is None else (_owners(offsets, device, length), len(offsets) - 1)
    whole, _ = _mean(hidden, mask, packed)
    if pooling != SECTIONS:
        return whole
    means = []
    for part in (~in_response, in_response):
        mean, count = _mean(hidden, mask * part.to(device), packed)
        means.append(torch.where(count > 0, mean, whole))
    return torch.cat(means, dim=1)


def _mean(
    hidden: torch.Tensor, weights: torch.Tensor, packed: tuple[torch.Tensor, int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean (N, H) over each sequence's tokens, in float32, and the sum (N, 1) of its weights.

    `packed`: (T,) the sequence that each token belongs to, and N.
    """
    weights = weights.unsqueeze(2).float()
    sums, counts = hidden.float() * weights, weights
    if packed is None:
        sums, counts = sums.sum(dim=1), counts.sum(dim=1)
    else:
        owner, sequences = packed
        sums, counts = (
            values.new_zeros(sequences, values.shape[2]).index_add(0, owner, values[0]) for values in (sums, counts)
        )
    return sums / counts.clamp(min=1), counts


def _owners(offsets: torch.Tensor, device: torch.device, length: int) -> torch.Tensor:
    """(T,) the sequence that each of `length` packed tokens belongs to."""
    sizes = offsets.long().to(device).diff()
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes, output_size=length)


def response_tokens(input_ids: torch.Tensor, mark: Sequence[int], offsets: torch.Tensor | None = None) -> torch.Tensor:
    """Which tokens belong to the response: those from the last place on where its mark stands; none without a mark.

    Args:
        input_ids: (B, T), padded on either side; or (1, T), N sequences packed end to end.
        mark: token ids of the mark that opens the response.
        offsets: (N + 1,) of packed sequences.

    Returns:
        (B, T) or (1, T) bool. What pads a row on the right counts as response, so a mask is still needed.
    """
    begins = torch.ones_like(input_ids, dtype=torch.bool)
    for place, token in enumerate(mark):
        begins &= (input_ids == token).roll(-place, dims=1)
    begins[:, max(0, begins.shape[1] + 1 - len(mark)) :] = False  # what `roll` brought from the other end
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    places = torch.where(begins, positions, -1)  # of a mark, else -1
    if offsets is None:
        last = places.amax(dim=1, keepdim=True)  # (B, 1)
    else:
        owner = _owners(offsets, input_ids.device, input_ids.shape[1])
        last = places.new_full((len(offsets) - 1,), -1).scatter_reduce(0, owner, places[0], "amax")[owner].unsqueeze(0)
    return (last >= 0) & (positions >= last)
