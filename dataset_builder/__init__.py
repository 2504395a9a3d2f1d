"""From logged chats to a dataset of user feedback. Names are imported on first use."""

from wildreward._lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "build_dataset": ".pipeline",
        "WildFeedback": ".builder",
        "run_stages": ".scale",
        "make_labeler": ".labelers",
    },
)
