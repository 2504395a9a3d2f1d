"""Backbones that are more than a text model of transformers: those that also see or hear, and those with code of their own.

Of the first the part that reads text is kept. Code of the second (`auto_map`) is saved with the reward model and runs only
where it is trusted: until then the backbone's configuration is a bag of values. This file is copied to the Hub with every
model, so it imports nothing but transformers.
"""

import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module

REMOTE = "transformers_modules."  # where transformers puts the modules that come with models
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def text_part(backbone: PreTrainedModel) -> PreTrainedModel:
    """What reads text in a backbone that also sees or hears; the backbone itself where it only reads.

    Raises:
        ValueError: it is an encoder-decoder, or has no such part.
    """
    config = backbone.config
    if config.is_encoder_decoder:
        raise ValueError(f"it is an encoder-decoder ({config.model_type}); use an encoder or a decoder")
    if config.get_text_config() is config:
        return backbone
    part = backbone.get_decoder().base_model
    if part.config is not config.get_text_config():
        raise ValueError(f"no part of it that reads text alone is known ({config.model_type}); use another backbone")
    return part


def named_class(config: PreTrainedConfig) -> str | None:
    """`file.Class` of the backbone, where it is not one of transformers'."""
    return (getattr(config, "auto_map", None) or {}).get("AutoModel")


def config_of(values: dict[str, Any]) -> PreTrainedConfig:
    """A backbone's configuration from its values, which name their `model_type`."""
    model_type = str(values.pop("model_type", None))
    if "AutoModel" not in (values.get("auto_map") or {}):
        return AutoConfig.for_model(model_type, **values)
    return type("UntrustedConfig", (PreTrainedConfig,), {"model_type": model_type})(**values)


def trusted_class(config: PreTrainedConfig, name: str, **hub: Any) -> tuple[PreTrainedConfig, type[PreTrainedModel]]:
    """A backbone's configuration and class, from the code that lies in the model's folder or repository: it is run.

    Args:
        config: as [`config_of`] made it.
        name: folder or Hub id of the reward model.
        **hub: those of `HUB_OPTIONS` it is loaded with.
    """
    hub.pop("subfolder", None)
    model_class = get_class_from_dynamic_module(config.auto_map["AutoModel"], name, **hub)
    values = config.to_dict()
    if own := config.auto_map.get("AutoConfig"):
        return get_class_from_dynamic_module(own, name, **hub).from_dict(values), model_class
    model_type = values.pop("model_type")
    return AutoConfig.for_model(model_type, **values), model_class


def name_code(backbone: PreTrainedModel, ours: set[str]) -> None:
    """Have the backbone's configuration name the files that [`save_code`] will write; none for a class of transformers.

    Raises:
        ValueError: they would write over one of `ours`.
    """
    config, remote = backbone.config, _remote_classes(backbone)
    config.auto_map = {auto: f"{own.__module__.rpartition('.')[2]}.{own.__name__}" for auto, own in remote.items()}
    if not remote:
        del config.auto_map
        return
    with tempfile.TemporaryDirectory() as folder:
        save_code(backbone, folder)
        if clash := ours & {path.name for path in Path(folder).iterdir()}:
            raise ValueError(
                f"its code has a file {min(clash)}, as the reward model has; rename it there, or use another backbone"
            )


def save_code(backbone: PreTrainedModel, folder: str | Path) -> None:
    """Copy the files of the backbone's own classes, with what they import beside them."""
    for own in _remote_classes(backbone).values():
        custom_object_save(own, folder)


def _remote_classes(backbone: PreTrainedModel) -> dict[str, type]:
    classes = {"AutoConfig": type(backbone.config), "AutoModel": type(backbone)}
    return {auto: own for auto, own in classes.items() if own.__module__.startswith(REMOTE)}
