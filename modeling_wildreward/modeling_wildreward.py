"""The reward model: any backbone `AutoModel` loads, pooled to one vector, with an ordinal head.

`logits` has one column, the expected level in [1, K], so code that reads a reward from `logits[:, 0]` reads the score.
This file is copied to the Hub with every model: relative imports, torch and transformers only.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import ModelOutput, logging

from .backbones import HUB_OPTIONS, name_code, named_class, save_code, text_part, trusted_class
from .configuration_wildreward import WildRewardConfig
from .loading import load_whole
from .ordinal import OrdinalHead, expected_level, level_probs, ordinal_loss
from .pooling import SECTIONS, pool, response_tokens

logger = logging.get_logger(__name__)

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "attention", "moe", "mlp"}


@dataclass
class WildRewardOutput(ModelOutput):
    """What the model returns.

    Attributes:
        loss: scalar, when labels were given.
        logits: (B, 1) the score, `1 + Σ_k P(y > k)`, calibrated.
        threshold_logits: (B, K - 1) raw, before the temperatures.
        level_probs: (B, K) calibrated distribution over the levels.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    threshold_logits: torch.Tensor | None = None
    level_probs: torch.Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class WildRewardForSequenceClassification(PreTrainedModel):
    """A pointwise reward model trained by ordinal regression on feedback levels (arXiv 2602.08829)."""

    config_class = WildRewardConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = {"score"}  # a few weights, in which the scores would be rounded
    _keys_to_ignore_at_inference = ("past_key_values", "hidden_states", "attentions")

    def __init__(
        self,
        config: WildRewardConfig,
        backbone: PreTrainedModel | None = None,
        backbone_class: type[PreTrainedModel] | None = None,
    ) -> None:
        super().__init__(config)
        self.num_labels = 1
        if config.text_config is None:
            raise ValueError("the configuration has no text_config; expected the backbone's configuration")
        if backbone is None and backbone_class is not None:
            backbone = backbone_class._from_config(config.text_config)
        elif backbone is None and (own := named_class(config.text_config)):
            raise ValueError(
                f"its backbone ({config.text_config.model_type}) contains custom code, {own}; read it, then pass "
                "trust_remote_code=True"
            )
        self.model = backbone or AutoModel.from_config(config.text_config, trust_remote_code=False)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used, and unused parameters stop distributed training
        hidden_size = config.text_config.get_text_config().hidden_size
        vectors = 2 if config.pooling == SECTIONS else 1
        self.score = OrdinalHead(vectors * hidden_size, config.num_levels, config.head)
        self.looks_back_only = self.causal and _attends_causally(self.model)
        self.attends_only = _attends_only(self.model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OrdinalHead):
            init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                fresh = OrdinalHead(1, self.config.num_levels, self.config.head)
                fresh.set_prior([1.0] * self.config.num_levels)
                init.copy_(module.bias, fresh.bias)

    @classmethod
    def from_pretrained(cls, name: str, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As in transformers; but a checkpoint that lacks a weight, has one too many or one of another shape is an error,
        for scores of a head or layer made up by chance look like any others. `trust_remote_code=True` runs the code of a
        backbone that has some.

        Raises:
            WeightsError: it is such a checkpoint, naming the weights.
        """
        if kwargs.get("trust_remote_code"):
            hub = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
            config = kwargs.get("config") or cls.config_class.from_pretrained(name, **hub)
            if named_class(config.text_config):
                config.text_config, kwargs["backbone_class"] = trusted_class(config.text_config, name, **hub)
                kwargs["config"] = config
        model, report = load_whole(super().from_pretrained, name, *args, **kwargs)
        return (model, report) if output_loading_info else model

    def save_pretrained(self, save_directory: str, *args: Any, **kwargs: Any) -> None:
        """As in transformers, with the code of a backbone that has some."""
        super().save_pretrained(save_directory, *args, **kwargs)
        save_code(self.model, save_directory)

    @classmethod
    def from_backbone(
        cls,
        name: str,
        *,
        num_levels: int = 4,
        head: str = "coral",
        pooling: str | None = None,
        max_length: int | None = None,
        base_model: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Put a fresh ordinal head on a pretrained backbone.

        Args:
            name: Hub id or folder of any model that `AutoModel` loads; of one that also sees or hears, the text model.
            num_levels: number of ordered levels K.
            head: `"coral"`, `"corn"` or `"independent"`.
            pooling: default: `"mean"` for encoders, `"last"` for decoders. `"sections"` also needs `config.response_mark`,
                which training sets from the tokenizer.
            max_length: longest input in tokens; default: 4,096 or what the backbone's positions allow.
            base_model: name of the backbone to record; default: `name`, or the folder's name.
            **kwargs: passed to `AutoModel.from_pretrained` (`dtype`, `attn_implementation`, `device_map`, `revision`,
                `quantization_config`, `trust_remote_code`, …).

        Raises:
            ValueError: an encoder-decoder backbone, one without a part that reads text, one whose code cannot be saved beside ours,
                or a value the configuration refuses.
            WeightsError: a backbone that lacks weights.
        """
        kwargs.setdefault("use_safetensors", True)
        trusted = kwargs.pop("trust_remote_code", False)
        # the pooler is not used, and what a language model has beyond its backbone is left behind
        unused = {"may_lack": ("pooler.",), "may_have": ("",)}
        backbone, _ = load_whole(AutoModel.from_pretrained, name, trust_remote_code=trusted, **unused, **kwargs)
        backbone = text_part(backbone)
        text_config = backbone.config
        encoder = text_config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        encoder |= "AutoModelForMaskedLM" in (getattr(text_config, "auto_map", None) or {})
        name_code(backbone, {path.name for path in Path(__file__).parent.iterdir()})
        config = WildRewardConfig(
            text_config=text_config,
            num_levels=num_levels,
            head=head,
            pooling=pooling or ("mean" if encoder else "last"),
            max_length=min(max_length or 4096, longest_input(backbone) or 4096),
            pad_token_id=getattr(text_config.get_text_config(), "pad_token_id", None),
            attn_implementation=text_config._attn_implementation,
        )
        config.dtype = text_config.dtype
        config.base_model = base_model or (Path(name).name if Path(name).exists() else name)
        text_config._name_or_path = ""  # a folder of this machine says nothing elsewhere
        model = cls(config, backbone=backbone)
        model.score.to(device=_last_device(backbone))
        for attribute in ("hf_device_map", "hf_quantizer", "is_quantized", "is_loaded_in_8bit", "is_loaded_in_4bit"):
            if hasattr(backbone, attribute):
                setattr(model, attribute, getattr(backbone, attribute))
        return model.eval()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        sample_weights: torch.Tensor | None = None,
        threshold_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        num_items_in_batch: torch.Tensor | int | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        use_cache: bool = False,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> WildRewardOutput | tuple[torch.Tensor, ...]:
        """Score B sequences.

        Args:
            input_ids: (B, T), padded on either side; or (1, T), N sequences packed end to end.
            attention_mask: (B, T), 1 for tokens and 0 for padding; left out for packed input, or (1, 1, T, T) bool, what each
                token sees, where packed sequences share a prefix.
            position_ids: (B, T); packed input needs it, restarting at 0 with each sequence.
            past_key_values: cache of a prefix; `attention_mask` then covers prefix and input. For `last` pooling only.
            labels: (B,) levels 1..K.
            sample_weights: (B,) weight of each sample in the loss.
            threshold_weights: (K - 1,) weight of each threshold in the loss.
            label_smoothing: see [`ordinal_loss`].
            num_items_in_batch: divide the summed loss by this instead of B (gradient accumulation).
            cu_seq_lens_q: (N + 1,) offsets of packed sequences, `[0, end of first, …, T]`; marks the input as packed.

        Raises:
            ValueError: labels outside 1..K; packed input that the backbone's attention cannot keep apart; `sections`
                pooling without token ids or without its mark.
        """
        seen = attention_mask  # by the backbone
        if cu_seq_lens_q is not None:
            position_ids, kwargs = self._packed_arguments(input_ids, position_ids, cu_seq_lens_q, kwargs)
        elif input_ids is not None and past_key_values is None:
            input_ids, attention_mask, token_type_ids = self._within_positions(
                input_ids, attention_mask, token_type_ids
            )
            seen = attention_mask
            if position_ids is None:
                seen = None if self._causality_hides_padding(attention_mask) else attention_mask
                position_ids = self._positions(seen)
        in_response = self._response_tokens(input_ids, cu_seq_lens_q)
        optional = {"token_type_ids": token_type_ids, "position_ids": position_ids, "past_key_values": past_key_values}
        kwargs |= {name: value for name, value in optional.items() if value is not None}
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            kwargs["use_cache"] = use_cache
        outputs = self.model(
            input_ids=input_ids, attention_mask=seen, inputs_embeds=inputs_embeds, return_dict=True, **kwargs
        )
        pooled = pool(outputs.last_hidden_state, attention_mask, self.config.pooling, cu_seq_lens_q, in_response)
        threshold_logits = self.score(pooled)

        loss = None
        if labels is not None:
            loss = ordinal_loss(
                threshold_logits,
                labels.to(threshold_logits.device),
                self.config.head,
                threshold_weights=threshold_weights,
                sample_weights=sample_weights,
                label_smoothing=label_smoothing,
                reduction="mean" if num_items_in_batch is None else "sum",
            )
            if num_items_in_batch is not None:
                loss = loss / num_items_in_batch
        temperatures = self.config.temperatures
        output = WildRewardOutput(
            loss=loss,
            logits=expected_level(threshold_logits, self.config.head, temperatures).unsqueeze(1),
            threshold_logits=threshold_logits,
            level_probs=level_probs(threshold_logits, self.config.head, temperatures),
            past_key_values=outputs.get("past_key_values"),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
        return output.to_tuple() if return_dict is False else output

    @property
    def causal(self) -> bool:
        """Whether the backbone is a decoder, and not one that was made to look both ways; one with code of its own must say so
        in each attention module."""
        config = self.config.text_config
        if named_class(config):
            return _attends_causally(self.model)
        both_ways = getattr(config.get_text_config(), "use_bidirectional_attention", False) is True
        return config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not both_ways

    @property
    def supports_packing(self) -> bool:
        """Whether this backbone keeps packed sequences apart under its present attention implementation.

        True with any flash attention; with sdpa or eager for causal decoders, whose masks follow the position ids. False
        for backbones in which more than attention mixes tokens: a recurrent or convolutional layer runs on from one
        sequence into the next.
        """
        if not self.attends_only:
            return False
        implementation = self.model.config._attn_implementation or ""
        return "flash" in implementation or (self.looks_back_only and implementation in ("sdpa", "eager"))

    def _causality_hides_padding(self, attention_mask: torch.Tensor | None) -> bool:
        """Whether no token of a decoder can see padding, because all of it comes after the tokens.

        Such a batch needs no mask, and without one attention takes its fastest kernels (flash, in sdpa too).
        """
        if attention_mask is None or not self.looks_back_only or torch.compiler.is_compiling():
            return False
        mask = attention_mask.bool()
        return bool((mask[:, 0].all() & (mask[:, 1:] <= mask[:, :-1]).all()).item())

    def _positions(self, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """(B, T) positions that count tokens and not padding, so that left padding changes nothing; None where the
        backbone takes no positions or counts them itself."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        if attention_mask is None or "position_ids" not in inspect.signature(self.model.forward).parameters:
            return None
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return None
        return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)

    def _response_tokens(self, input_ids: torch.Tensor | None, offsets: torch.Tensor | None) -> torch.Tensor | None:
        if self.config.pooling != SECTIONS:
            return None
        if input_ids is None or not self.config.response_mark:
            remedy = "pass input_ids" if input_ids is None else "set config.response_mark to response_mark(tokenizer)"
            raise ValueError(f"sections pooling finds the response by the token ids of its mark; {remedy}")
        return response_tokens(input_ids, self.config.response_mark, offsets)

    def _packed_arguments(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor | None, offsets: torch.Tensor, kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Positions and arguments that keep packed sequences apart: flash attention reads the offsets, masks read the
        positions."""
        if not self.supports_packing:
            raise ValueError(
                f"packed input is not possible for {self.config.text_config.model_type} with "
                f"{self.model.config._attn_implementation} attention; pad the batch"
                f"{', or use flash attention' if self.attends_only else ''}"
            )
        if position_ids is None or input_ids.shape[0] != 1:
            raise ValueError("packed input needs input_ids of shape (1, T) and position_ids that restart at 0")
        if "flash" in self.model.config._attn_implementation:
            longest = int(offsets.diff().max())
            kwargs = kwargs | {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}
            kwargs |= {"max_length_q": longest, "max_length_k": longest}
        return position_ids + _first_position(self.model), kwargs

    def _within_positions(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, token_type_ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Shorten rows that exceed a table of absolute positions: keep the first token and the end, which holds the
        response. Callers that encode with this package never get here; plain tokenizers and trainers may."""
        limit = position_limit(self.model)
        if limit is None or input_ids.shape[1] <= limit:
            return input_ids, attention_mask, token_type_ids
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = []
        for tokens, valid in zip(input_ids, mask.bool(), strict=True):
            kept = tokens[valid]
            rows.append(kept if len(kept) <= limit else torch.cat([kept[:1], kept[1 - limit :]]))
        cut = int((mask.sum(1) > limit).sum())
        if cut:
            logger.warning(
                f"{cut} of {len(rows)} inputs are longer than the {limit} positions of this backbone: "
                "their beginning was left out, their end kept"
            )
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.config.pad_token_id or 0)
        lengths = torch.tensor([len(row) for row in rows], device=padded.device)
        return padded, (torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]).long(), None


def longest_input(backbone: PreTrainedModel) -> int | None:
    """How many tokens a backbone takes; None where it does not say."""
    return position_limit(backbone) or getattr(backbone.config.get_text_config(), "max_position_embeddings", None)


def position_limit(backbone: nn.Module) -> int | None:
    """How many tokens fit a backbone with a table of absolute positions (BERT and kin); None where there is none."""
    table = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - _first_position(backbone)


def _first_position(backbone: nn.Module) -> int:
    """Where a backbone's table of absolute positions begins to count: RoBERTa and kin leave room for padding."""
    table = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    return 0 if getattr(table, "padding_idx", None) is None else table.padding_idx + 1


def _attends_causally(backbone: nn.Module) -> bool:
    """Whether every attention module says that its tokens never look ahead; models without such modules say nothing."""
    flags = [module.is_causal for module in backbone.modules() if hasattr(module, "is_causal")]
    return bool(flags) and all(flag is True for flag in flags)


def _attends_only(backbone: nn.Module) -> bool:
    """Whether tokens see each other through attention alone: no layer is recurrent (Mamba, linear attention) or a
    convolution over time, as some are in hybrids such as Qwen3-Next, LFM2, Falcon-H1 or Granite 4."""
    kinds = getattr(backbone.config.get_text_config(), "layer_types", None) or ()
    if not ATTENTION_LAYERS.issuperset(kinds):
        return False
    return not any(getattr(m, "_is_stateful", False) or isinstance(m, nn.Conv1d) for m in backbone.modules())


def _last_device(backbone: nn.Module) -> torch.device:
    """Where the backbone's last hidden state comes out (with a device map the parts lie on several devices)."""
    return list(backbone.parameters())[-1].device


WildRewardForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
