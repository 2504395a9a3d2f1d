import pytest

from tests.dataset_builder.chats import write_chats


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """120 chats in a JSONL file, and their labels."""
    return write_chats(tmp_path_factory.mktemp("log"), 120)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """A BERT of two small layers with random weights and a tokenizer, saved as a folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _default_labeler(minilm):
    """The classifier of the package finds its encoder in the tests' Hub cache."""
