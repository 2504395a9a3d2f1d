"""From logged chats to a dataset of user feedback. Names are imported on first use."""

from wildreward.common.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "build_dataset": ".build",
        "WildFeedback": ".builder",
        "run_stages": ".cluster",
        "make_labeler": ".labelers",
    },
)
