"""Cards of models and datasets, and the way of both kinds of folder to the Hub."""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "push": ".upload",
        "render_model_card": ".model_card",
        "validate_folder": ".validate",
        "write_model_card": ".model_card",
    },
)
