"""The repeated layers of a backbone: keep the first of them as they are, or compile each."""

from collections.abc import Iterator

import torch
from torch import nn

from wildreward.errors import UserError

RECOMPILE_LIMIT = 64  # kinds of batches times kinds of layers; past it torch goes on uncompiled


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The longest list of modules that is not inside another one (as experts are): the layers; lists in it are joined.

    Raises:
        UserError: there is no list of modules.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [module for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    if not outer:
        raise UserError("frozen_layers and torch_compile need a backbone with a list of layers, and this one has none")
    return max(([*_joined(layers)] for layers in outer), key=len)


def _joined(layers: nn.ModuleList) -> Iterator[nn.Module]:
    for layer in layers:
        yield from _joined(layer) if isinstance(layer, nn.ModuleList) else (layer,)


def freeze(model: nn.Module, layers: int) -> None:
    """Keep the embeddings and the first `layers` layers of the backbone as they are.

    Raises:
        UserError: the backbone has fewer layers, or none that can be told apart.
    """
    if layers <= 0:
        return
    stack = layers_of(model)
    if layers > len(stack):
        raise UserError(f"frozen_layers is {layers}, but the backbone has {len(stack)} layers")
    embeddings = model.model.get_submodule("embeddings") if hasattr(model.model, "embeddings") else None
    for module in (embeddings or model.model.get_input_embeddings(), *stack[:layers]):
        module.requires_grad_(False)


def compile_layers(model: nn.Module, backend: str | None = None, mode: str | None = None) -> None:
    """Have `torch.compile` work on each layer, in place: names of modules and weights stay as they are.

    The layers share their code, so whatever their number it is compiled once for each kind of batch (one row or more,
    with gradients or without, with a mask or without) and of layer. What lies around them chooses its way by the batch's
    padding and would break the graph; it costs next to nothing.

    Args:
        backend, mode: see `torch.compile`.

    Raises:
        UserError: the backbone has no list of layers.
    """
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)
    for layer in layers_of(model):
        layer.compile(backend=backend or "inductor", mode=mode, dynamic=True)
