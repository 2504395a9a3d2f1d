"""Whether the weights of a checkpoint are those of the model that goes on from it."""

from pathlib import Path

from torch import nn

from wildreward.errors import UserError
from wildreward.weights import shapes_in, weight_files


def check_weights(checkpoint: Path, model: nn.Module) -> None:
    """Refuse a checkpoint whose weights are not those that `model` would save; its trainer would only warn, and go on with
    the weights it has.

    Raises:
        UserError: weights are missing, left over or of another shape, or a file of them is damaged.
    """
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        files, expected = [checkpoint / "adapter_model.safetensors"], get_peft_model_state_dict(model)
    else:
        files, expected = weight_files(checkpoint), model.state_dict()
    found = {name: shape for file in files for name, shape in shapes_in(file).items()}
    shapes = {name: tuple(weight.shape) for name, weight in expected.items()}
    tied = getattr(model, "all_tied_weights_keys", None) or {}  # saved under one of their names
    wrong = {name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name)}
    if wrong := sorted(name for name in wrong if name in found or name not in tied):
        name = wrong[0]
        raise UserError(
            f"{checkpoint} does not fit the model in {len(wrong)} of its weights, such as {name}: there of shape "
            f"{found.get(name)}, in the model {shapes.get(name)}; delete it to go on from an earlier one"
        )
