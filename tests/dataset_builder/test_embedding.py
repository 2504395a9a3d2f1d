"""Sentence embeddings: batches, order, cores, other encoders than BERT, and agreement with the libraries."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel

from wildreward.common.errors import UserError
from wildreward.dataset_builder.embedding import Embedder, check_encoder
from wildreward.dataset_builder.encoding import length_batches

TEXTS = ["How do tides work?", "a", "What makes the sea rise and fall twice a day?", "Bake a cake " * 100, "", "a"]


@given(lengths=st.lists(st.integers(0, 50), max_size=40), budget=st.integers(1, 120))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= budget


def test_vectors_have_unit_length_keep_the_order_and_do_not_depend_on_threads(tiny_encoder):
    threads = torch.get_num_threads()
    one = Embedder(tiny_encoder, threads=1, device="cpu").encode(TEXTS)
    two = Embedder(tiny_encoder, threads=3, device="cpu").encode(TEXTS)
    assert torch.get_num_threads() == threads
    assert np.array_equal(one, two) and one.shape == (6, 16)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert np.allclose(one[1], one[5], atol=1e-6) and not np.allclose(one[0], one[2], atol=1e-3)


def test_vectors_are_the_means_that_transformers_computes_for_each_text_alone(tiny_encoder):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_encoder), AutoModel.from_pretrained(tiny_encoder).eval()
    with torch.inference_mode():
        alone = [
            model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).last_hidden_state[0].mean(0)
            for text in TEXTS
        ]
    expected = torch.nn.functional.normalize(torch.stack(alone), dim=-1).numpy()
    assert np.allclose(Embedder(tiny_encoder, max_tokens=32, device="cpu").encode(TEXTS), expected, atol=2e-2)


def test_other_models_than_bert_work(tiny_encoder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(tmp_path)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=8)
    DistilBertModel(config).save_pretrained(tmp_path)
    check_encoder(str(tmp_path))
    vectors = Embedder(str(tmp_path), device="cpu").encode(TEXTS)
    assert vectors.shape == (6, 16) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[1], vectors[5], atol=1e-6) and not np.allclose(vectors[0], vectors[2], atol=1e-3)


def test_minilm_agrees_with_sentence_transformers(minilm):
    library = pytest.importorskip("sentence_transformers")

    reference = library.SentenceTransformer(minilm, device="cpu")
    reference.max_seq_length = 128
    texts = [text for text in TEXTS if text]
    expected = reference.encode(texts, normalize_embeddings=True)
    got = Embedder(minilm, device="cpu").encode(texts)
    assert np.allclose((got * expected).sum(1), 1, atol=2e-3)
    assert got[0] @ got[2] > 0.5 > got[0] @ got[3]


def test_longer_texts_than_an_encoder_has_places_for_are_cut(tiny_encoder):
    assert Embedder(tiny_encoder, max_tokens=10_000, device="cpu").encode(["a b " * 2_000]).shape == (1, 16)


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


def test_a_prefix_and_a_missing_pooler_change_nothing(tiny_encoder, tmp_path):
    folder = copied(tiny_encoder, tmp_path / "encoder")
    rewritten(folder, lambda name: "" if name.startswith("pooler") else f"bert.{name}")
    got, expected = (Embedder(str(path), device="cpu").encode(TEXTS) for path in (folder, tiny_encoder))
    assert np.array_equal(got, expected)


def test_old_names_and_shards_are_read(tiny_encoder, tmp_path):
    from transformers import AutoModel

    old = copied(tiny_encoder, tmp_path / "old")
    rewritten(old, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"))
    sharded = copied(tiny_encoder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny_encoder).save_pretrained(sharded, max_shard_size="8KB")
    assert (sharded / "model.safetensors.index.json").exists()
    expected = Embedder(tiny_encoder, device="cpu").encode(TEXTS)
    for folder in (old, sharded):
        check_encoder(str(folder))
        assert np.allclose((Embedder(str(folder), device="cpu").encode(TEXTS) * expected).sum(1), 1, atol=1e-3)


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


def test_an_encoder_without_one_of_its_layers_is_refused(tiny_encoder, tmp_path):
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
        (cut, "damaged or cut off"),
        (translator, "a t5 model; expected an enc"),
    ):
        with pytest.raises(UserError, match=reason):
            check_encoder(str(folder))
