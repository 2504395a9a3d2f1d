"""The repeated layers of a backbone: keep the first of them as they are, or compile each."""

from torch import nn

from wildreward.errors import UserError


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules in the model: its layers."""
    return max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len)


def freeze(model: nn.Module, layers: int) -> None:
    """Keep the embeddings and the first `layers` layers of the backbone as they are.

    Raises:
        UserError: the backbone has fewer layers.
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

    The layers share their code, so it is compiled once, whatever their number, for batches of any shape. What lies around them chooses its way by
    the batch's padding and would break the graph; it costs next to nothing.

    Args:
        backend, mode: see `torch.compile`.
    """
    for layer in layers_of(model):
        layer.compile(backend=backend or "inductor", mode=mode, dynamic=True)
