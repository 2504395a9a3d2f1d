"""Tiny models and tokenizers made in the process, so that tests need no download."""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    Gemma3TextConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import install_template, response_mark

WORDS = "the cat sat on a mat and thanked user for an answer that was right wrong again please history query response"
VOCAB = 400
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with chat tokens and no start token, like SmolLM2's. Built, not trained: training breaks ties by
    chance, and random models would score differently from run to run."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    merges = []
    for word in dict.fromkeys(WORDS.split()):
        pieces = ["Ġ", *word]
        merges += [("".join(pieces[:end]), pieces[end]) for end in range(1, len(pieces))]
    merges = list(dict.fromkeys(merges))
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece with [CLS] … [SEP], like BERT's."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    words = [word for word in dict.fromkeys(WORDS.split()) if len(word) > 1]
    tokens = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def joining_tokenizer() -> PreTrainedTokenizerFast:
    """One that, like Tekken, may join the end of a line to slashes which begin the next: `>`, newline and `//`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = [*letters, ">Ċ", "//", ">Ċ//"], [(">", "Ċ"), ("/", "/"), (">Ċ", "//")]
    tokenizer = Tokenizer(models.BPE({piece: row for row, piece in enumerate(pieces)}, merges))
    words = pre_tokenizers.Split(Regex(r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\p{L}+|\p{N}|\s+"), "isolated")
    of_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, of_bytes])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="!", eos_token="!")


def backbone_config(kind: str, **shape: int):
    """Random-weight configuration of a family: bert, modernbert, llama, qwen3 or gemma3; `shape` replaces parts of SHAPE."""
    causal = {"num_key_value_heads": 2, "pad_token_id": 0, "max_position_embeddings": 1024}
    if kind == "bert":
        return BertConfig(**SHAPE, max_position_embeddings=128, pad_token_id=0)
    if kind == "modernbert":
        tokens = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        return ModernBertConfig(**SHAPE, **tokens, max_position_embeddings=512, local_attention=16)
    if kind == "llama":
        return LlamaConfig(**SHAPE | causal | shape)
    if kind == "qwen3":
        return Qwen3Config(**SHAPE | causal | {"head_dim": 8} | shape)
    if kind == "gemma3":
        return Gemma3TextConfig(**SHAPE, **causal, head_dim=8, sliding_window=16)
    raise ValueError(kind)


def tokenizer_for(kind: str) -> PreTrainedTokenizerFast:
    tokenizer = encoder_tokenizer() if kind in ("bert", "modernbert") else decoder_tokenizer()
    return install_template(tokenizer)


def reward_model(
    kind: str = "llama",
    head: str = "coral",
    seed: int = 0,
    pooling: str | None = None,
    num_levels: int = 4,
    **shape: int,
) -> WildRewardForSequenceClassification:
    """A reward model with random weights whose scores differ visibly between inputs."""
    torch.manual_seed(seed)
    backbone = AutoModel.from_config(backbone_config(kind, **shape), attn_implementation="sdpa")
    encoder = kind in ("bert", "modernbert")
    config = WildRewardConfig(
        text_config=backbone.config,
        num_levels=num_levels,
        head=head,
        pooling=pooling or ("mean" if encoder else "last"),
        response_mark=response_mark(tokenizer_for(kind)) if pooling == "sections" else None,
        max_length=128,
        attn_implementation="sdpa",
        pad_token_id=0,
    )
    model = WildRewardForSequenceClassification(config, backbone=backbone).eval()
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.dim() == 2:  # freshly initialised matrices hardly mix: every input would score alike
                parameter.normal_(std=0.15)
        model.score.weight.normal_(std=0.2)
    return model


def save_backbone(kind: str, folder) -> str:
    """Write a random backbone with its tokenizer, as a pretrained base model would lie in a folder."""
    torch.manual_seed(0)
    AutoModel.from_config(backbone_config(kind)).save_pretrained(folder)
    (encoder_tokenizer() if kind in ("bert", "modernbert") else decoder_tokenizer()).save_pretrained(folder)
    return str(folder)


def chat(query: str, response: str, *history: str):
    """Messages: history alternates user, assistant."""
    roles = ("user", "assistant")
    before = [{"role": roles[i % 2], "content": text} for i, text in enumerate(history)]
    return [*before, {"role": "user", "content": query}, {"role": "assistant", "content": response}]
