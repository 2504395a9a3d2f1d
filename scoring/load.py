"""Any reward model by its name, a folder, a Hub id or a URL, as a `Scorer`; and the options of loading one."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.common.names import is_url, public_name, source_name, split_urls
from wildreward.common.weights import check_files
from wildreward.scoring.endpoint import check_address
from wildreward.scoring.protocol import Scorer
from wildreward.scoring.remote import RemoteScorer, Served
from wildreward.scoring.wire_formats import formats_of

logger = logging.getLogger(__name__)

URL_HELP = (
    "The URL's path says what is served there: /score (wildreward serve), /get_reward (OpenRLHF's form), /classify (vLLM, "
    "SGLang), /pooling (vLLM), /predict (TEI); several URLs of one model with commas between them share the work"
)
MODEL_HELP = (
    "Reward model: a WildReward folder or Hub id, an export of one, a sequence classifier with one label (Bradley-Terry), one "
    f"with code of its own (--trust-remote-code), a policy with its --reference, or the URL of a server. {URL_HELP}."
)
SERVED_MODEL_HELP = (
    "For a URL: folder or Hub id of the model that answers there. Its tokenizer and chat template make what is sent, its "
    "configuration says what the numbers mean. Needed for vLLM, SGLang and TEI; for /get_reward a server that expects the "
    "policy's chat text wants the policy here."
)


@dataclass(kw_only=True)
class LoadingConfig:
    """What a command must know to load any reward model: the options of `load_scorer`."""

    revision: str | None = field(default=None, metadata={"help": "Revision of a model from the Hub."})
    dtype: str = field(default="auto", metadata={"help": "Number format of the weights: auto, float32, bfloat16 …"})
    token_budget: int = field(default=16384, metadata={"help": "Most padded tokens in one forward pass."})
    max_length: int = field(
        default=4096,
        metadata={"help": "Longest input in tokens of a classifier, here or served; a WildReward model says its own."},
    )
    keep_reasoning: bool = field(
        default=False, metadata={"help": "Judge answers with the reasoning before them, which is taken out by default."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})
    served_model: str | None = field(default=None, metadata={"help": SERVED_MODEL_HELP})
    reference: str | None = field(
        default=None,
        metadata={
            "help": "Makes a causal language model trained by DPO a reward model: folder or Hub id of the model it was trained "
            "from. The score is beta times the log-ratio of the two."
        },
    )
    beta: float = field(default=0.1, metadata={"help": "With --reference: the beta of the policy's training."})

    def loading(self) -> dict[str, Any]:
        """Keyword arguments for `load_scorer`."""
        return {option.name: getattr(self, option.name) for option in fields(LoadingConfig)}


def load_scorer(
    model: str | Sequence[str],
    *,
    revision: str | None = None,
    dtype: str = "auto",
    token_budget: int = 16_384,
    max_length: int = 4096,
    keep_reasoning: bool = False,
    trust_remote_code: bool = False,
    served_model: str | None = None,
    reference: str | None = None,
    beta: float = 0.1,
    device_map: Any = None,
    **asking: Any,
) -> Scorer:
    """Open any reward model.

    Args:
        model: folder, Hub id, or the URL of a server, or several of the same model; see `wire_formats`.
        revision, dtype, token_budget, max_length, keep_reasoning, trust_remote_code, served_model, reference, beta: see
            `LoadingConfig`.
        device_map: passed to transformers; by default the GPU where there is one.
        **asking: for a URL: see `RemoteScorer`.

    Raises:
        UserError: it is not a reward model, saying what it is.
    """
    urls = _urls(model)
    if urls:
        _warn_of_unused(source_name(urls[0]), served_model, revision, None)
        _refuse_reference(source_name(urls[0]), reference)
        served = _open_served(urls, served_model, revision, trust_remote_code, max_length) if served_model else None
        return RemoteScorer(urls, served, keep_reasoning=keep_reasoning, **asking)
    model = str(model)
    _warn_of_unused(model, model, revision, served_model)
    if asking:
        raise UserError(f"{public_name(model)} is no URL; {', '.join(asking)} are for reward servers")
    from wildreward.scoring.classifier import check_labels, own_code_hint
    from wildreward.scoring.local import ClassifierScorer, WildRewardScorer
    from wildreward.scoring.scorer import default_device

    config, commit = open_config(model, revision, trust_remote_code)
    options = {"token_budget": token_budget, "dtype": dtype, "device_map": device_map or default_device()}
    options["keep_reasoning"] = keep_reasoning
    if not is_policy(config):
        _refuse_reference(public_name(model), reference)
    if config.model_type == "wildreward":
        with whole_weights():
            return WildRewardScorer(model, commit, trust_remote_code=trust_remote_code, **options)
    if is_policy(config):
        from wildreward.scoring.implicit import open_policy

        options |= {"max_length": max_length, "trust_remote_code": trust_remote_code}
        with whole_weights():
            return open_policy(model, commit, reference, beta, **options)
    if trust_remote_code:
        from wildreward.scoring.own_code import OwnCodeScorer, own_class

        if own_class(config):
            with whole_weights():
                return OwnCodeScorer(model, commit, config, max_length=max_length, **options)
    check_labels(model, config)
    code = {"trust_remote_code": trust_remote_code, "code_hint": own_code_hint(config)}
    with whole_weights():
        return ClassifierScorer(model, commit, max_length=max_length, **code, **options)


def is_policy(config: Any) -> bool:
    """Whether a configuration is of a causal language model, which is a reward model only beside a reference."""
    return any(name.endswith("ForCausalLM") for name in config.architectures or [])


def takes_reference(model: str, *, revision: str | None = None, trust_remote_code: bool = False, **_: Any) -> bool:
    """Whether `--reference` is for this model, before its weights are loaded; takes what `load_scorer` takes."""
    return not _urls(model) and is_policy(open_config(model, revision, trust_remote_code)[0])


@contextlib.contextmanager
def whole_weights() -> Iterator[None]:
    """Have `from_pretrained` load whole weights on each process also in a run under ZeRO-3: a model that only scores is not
    DeepSpeed's to shard."""
    from transformers.integrations import deepspeed

    sharding, deepspeed._hf_deepspeed_config_weak_ref = deepspeed._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = sharding


def open_config(model: str, revision: str | None = None, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Configuration of a model folder or Hub id, and the commit it was read at: a `ResolvedRevision`, None of a folder.

    Raises:
        UserError: there is none, or a file of it cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    import wildreward.modeling_wildreward  # noqa: F401 - makes AutoConfig know the model type

    check_files(model)
    try:
        commit = hub_commit(model, revision)
        return AutoConfig.from_pretrained(model, revision=commit, trust_remote_code=trust_remote_code), commit
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(
            f"{model} is not a model folder, Hub id or URL that can be opened: {load_error_message(model, error)}"
        ) from error


def model_levels(
    model: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    served_model: str | None = None,
    **_: Any,
) -> int | None:
    """Number of levels of a model that has them, before its weights are loaded; takes what `load_scorer` takes."""
    if urls := _urls(model):
        if served_model is None or not _asked_for_logits(urls):
            return None
        model = served_model
    config, _ = open_config(model, revision, trust_remote_code)
    if config.model_type == "wildreward":
        return config.num_levels
    thresholds = getattr(config, "wildreward_thresholds", None)
    return len(thresholds) + 1 if isinstance(thresholds, list) else None


def _urls(model: str | Sequence[str]) -> list[str]:
    """The addresses in what names a reward model, each one that can be asked; none of a folder or Hub id."""
    urls = split_urls(model) if isinstance(model, str) else list(model)
    if isinstance(model, str) and not is_url(model):
        return []
    if not urls or not all(map(is_url, urls)):
        raise UserError(f"a list of {len(urls)} reward models is one model only where all are URLs; give one of them")
    for url in urls:
        check_address(url)
    return urls


def _asked_for_logits(urls: Sequence[str]) -> bool:
    return any(one.reads_logits for url in urls for one in formats_of(url))


def _open_served(
    urls: Sequence[str], model: str, revision: str | None, trust_remote_code: bool, max_length: int
) -> Served:
    from wildreward.scoring.classifier import Classifier, named_tokenizer

    if not _asked_for_logits(urls):
        return Served(model, named_tokenizer(model, revision, trust_remote_code=trust_remote_code))
    config, commit = open_config(model, revision, trust_remote_code)
    if config.model_type == "wildreward":
        raise UserError(
            f"--served-model {public_name(model)} is a WildReward model, which no engine serves; give the folder that "
            "`wildreward export` wrote of it and the engine serves, or ask a `wildreward serve` at its /score"
        )
    tokenizer = named_tokenizer(model, commit, trust_remote_code=trust_remote_code)
    return Served(model, tokenizer, Classifier(model, config, tokenizer, max_length), commit and commit.resolved)


def _refuse_reference(shown: str, reference: str | None) -> None:
    if reference is not None:
        raise UserError(
            f"--reference is for a causal language model trained by DPO, and {shown} is none; leave it out, or give the policy"
        )


def _warn_of_unused(shown: str, model: str | None, revision: str | None, served_model: str | None) -> None:
    """Options of a comparison go to both models, so one that fits only the other is no error."""
    if revision is not None and (model is None or Path(model).is_dir()):
        logger.warning("--revision is passed over for %s: only a model from the Hub has revisions", public_name(shown))
    if served_model is not None:
        logger.warning("--served-model is passed over for %s: it is for URLs", public_name(shown))
