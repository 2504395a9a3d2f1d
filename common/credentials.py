"""Keys, tokens and passwords in text: what must not be published, whoever wrote it.

A rule is a shape that one provider gives its keys, or a place that only a secret takes (`Authorization: Bearer …`, the
password of a URL). Each names the pieces of text without which it cannot apply: looking for these is much cheaper than
matching. Keys of documentation (`AKIA…EXAMPLE`, `sk-xxxx…`, `<your token>`) are no secrets.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from wildreward.common.disguise import original_positions, undisguised


class Span(NamedTuple):
    """`text[start:end]` is a finding of the kind."""

    start: int
    end: int
    kind: str


_PLACEHOLDER = re.compile(
    r"example|(?:your|my)[-_. ]?(?:api|access|secret|private|bot|auth|token|key|pass|own|org|real|actual)|your[-_]|x{4}"
    r"|\*{3}|\.{3}|0{8}|placeholder|redacted|change-?me|replace|insert|dummy|^[\[{<$]|^%[s({]",
    re.I,
)
# Stripe's documentation has these in every example.
_STRIPE_EXAMPLES = (
    "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "sk_test_" + "BQokikJOvBiI2HlWgH4olfQ2",
    "sk_test_" + "tR3PYbcVNZZ796tH88S4VQ2u",
)
# The key of Microsoft's storage emulator is the same everywhere.
_EMULATOR = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq"


def _genuine(secret: str) -> bool:
    """No placeholder, as documentation has them."""
    return not _PLACEHOLDER.search(secret) and not secret.startswith(_EMULATOR)


def _mixed(secret: str) -> bool:
    """Upper case, lower case and digits: no hash, no path, no word."""
    return _genuine(secret) and all(re.search(kind, secret) for kind in ("[a-z]", "[A-Z]", r"\d"))


def _random(secret: str) -> bool:
    """Letters and digits in no order, as generated keys are; identifiers and words are not."""
    runs = re.findall(r"[A-Za-z0-9+/]{16,}", secret)
    return _genuine(secret) and any(
        re.search(r"\d.*\d.*\d", run) and re.search("[A-Za-z]", run) and _bits(run) > 3 for run in runs
    )


def _opaque(secret: str) -> bool:
    """No words with dots and hyphens between them."""
    return _genuine(secret) and any(map(str.isdigit, secret)) and _bits(secret) > 3


def _bits(text: str) -> float:
    """Shannon entropy of the characters."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _key_material(block: str) -> bool:
    """A header alone is talk about keys."""
    return bool(re.search(r"[A-Za-z0-9+/]{40}|[A-Za-z0-9+/]{12}[\s\S]*-----END ", block))


class _Rule(NamedTuple):
    """`pattern` finds the secret, its first group if it has one. `anchors`: one of them is in every text that holds one."""

    kind: str
    anchors: tuple[str, ...]
    pattern: re.Pattern
    check: Callable[[str], bool]


def _started(first: str = "") -> str:
    """Where a key may begin: not inside a word; but what ends an escape (of JSON, of a URL, of a terminal's colour) is no word.
    Behind its `first` sign, for a pattern that is quickly searched for begins with a sign.
    """
    escapes = (
        r"\\[abfnrtv0]",
        "%[0-9A-Fa-f]{2}",
        r"\\x[0-9A-Fa-f]{2}",
        r"\\u[0-9A-Fa-f]{4}",
        r"\[[0-9]m",
        r"\[[0-9]{2}m",
    )
    return rf"(?:(?<![A-Za-z0-9]{first})|{'|'.join(f'(?<={escape}{first})' for escape in escapes)})"


def _shape(kind: str, anchors: str, pattern: str, check: Callable[[str], bool] = _genuine) -> _Rule:
    return _Rule(kind, tuple(anchors.split()), re.compile(_started() + pattern, re.A), check)


# Every key holds a long word; a password may be short, but has its place, and so has a key cut short in its block.
_LONG = re.compile(r"[\w/+-]{20}", re.A)
_ASSIGNED = r"""["'`\]]{0,2}\s{0,3}(?:[:=]|=>|:=|is|,)\s{0,3}["'`]{0,3}"""
# `user:password`, in the many spellings of documentation.
_LOGIN = (
    r"(?i:(?:my|your|db|some)?_?(?:user(?:name)?|usr|name|login|root|admin|postgres|me)?:"
    r"(?:my|your|the|db|user|some|root|admin)?[-_]?(?:password|passwd|pass|pwd|secret|postgres)\d{0,3})"
)
_RULES = (
    _Rule(
        "private_key",
        ("PRIVATE KEY", "Private-Lines"),
        re.compile(
            r"""-----BEGIN\ (?:[A-Z0-9]+\ ){0,4}PRIVATE\ KEY(?:\ BLOCK)?-----(?:(?:(?!-----)[\s\S]){12,20000}-----END\ [^-\n]{1,60}-----
                |(?:[\s"'`\\,+>]|[A-Za-z0-9+/=]{20,}|[A-Z][A-Za-z-]{2,20}:\ [^\n]*)*+
                (?:[A-Za-z0-9+/=]{1,20}(?![\w]))?)
              | Private-Lines:\ \d+\s+(?:[A-Za-z0-9+/=]{20,}\s+)*[A-Za-z0-9+/=]*""",
            re.X | re.A,
        ),
        _key_material,
    ),
    _shape("anthropic_key", "sk-ant-", r"sk-ant-[\w-]{20,}"),
    _shape("openai_key", "sk-", r"sk-(?=[\w-]{0,99}?[A-Za-z0-9]{16})[\w-]{20,}"),
    _shape("aws_key", "AKIA ASIA ABIA ACCA", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _shape("aws_secret_key", "AKIA ASIA", r"A[KS]IA[A-Z0-9]{16}\W{1,6}(?:[\w ]{0,40}\W{1,6})?([A-Za-z0-9/+]{40})(?![\w/+=])", _mixed),
    _shape("aws_secret_key", "aws AWS Aws secret Secret SECRET", rf"(?:[aA][wW][sS]|[sS](?:ecret|ECRET))[\w .-]{{0,40}}{_ASSIGNED}([A-Za-z0-9/+]{{40}})(?![\w/+=])", _mixed),
    _shape("github_token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[opsur]_[A-Za-z0-9]{30,}|github_pat_\w{22,})"),
    _shape("gitlab_token", "glpat- gldt- glrt- glcbt- glptt- glsoat-", r"gl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{20,}"),
    _shape("huggingface_token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _shape("slack_token", "xox xapp-", r"(?:xox[a-z](?:\.xox[a-z])?|xapp)-(?=[\w-]{0,99}?[A-Za-z0-9]{10})[\w-]{10,}"),
    _shape("webhook", "hooks.slack.com/ /api/webhooks/ webhook.office.com/",
           r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/[\w/]{20,}|discord(?:app)?\.com/api/webhooks/\d{16,}/[\w-]{40,}|[\w-]{1,60}\.webhook\.office\.com/[\w@/-]{40,})"),
    _shape("google_key", "AIza ya29. GOCSPX- 1//0", r"(?:AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}|1//0[\w-]{30,})"),
    _shape("stripe_key", "_live_ whsec_", r"(?:[sr]k_live_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,})"),
    _shape("stripe_key", "_test_", r"[sr]k_test_[A-Za-z0-9]{16,}", lambda key: _random(key) and key not in _STRIPE_EXAMPLES),
    _shape("npm_token", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    _shape("pypi_token", "pypi-", r"pypi-[\w-]{50,}"),
    _shape("azure_key", "AccountKey= SharedAccessKey= sig= 8Q~", r"(?:AccountKey=([A-Za-z0-9+/]{80,}={0,2})|SharedAccessKey=([A-Za-z0-9+/]{40,}=?)|[?&;]sig=([A-Za-z0-9%+/]{40,}(?:=|%3[dD]))|\w{3}8Q~[\w~.-]{30,})"),
    _shape("twilio_key", "SK AC", r"(?:SK|AC)[0-9a-f]{32}(?![A-Za-z0-9])"),
    _shape("sendgrid_key", "SG.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),
    _shape("mail_key", "key- -us", r"(?:key-[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2})(?![A-Za-z0-9])"),
    _Rule("telegram_token", (":",), re.compile(rf"\d{_started('[0-9]')}\d{{7,9}}:[\w-]{{35}}(?![\w-])", re.A), _opaque),
    _shape("jwt", "eyJ", r"eyJ[\w-]{10,2000}+\.eyJ[\w-]{10,9000}+\.[\w-]{10,}"),
    _shape("access_token", "gsk_ r8_ xai- pplx- do_v1_ doo_v1_ dop_v1_ shp dapi ntn_ lin_api_ figd_ dckr_pat_ hvs. glsa_ sbp_ sq0",
           r"(?:gsk_|r8_|xai-|pplx-|do[opr]_v1_|shp(?:at|ca|pa|ss)_|dapi(?=[0-9a-f]{32})|ntn_|lin_api_|figd_|dckr_pat_|hvs\.|glsa_|sbp_|sq0[a-z]{3}-)[\w-]{22,}", _random),
    _shape("access_token", "nvapi- csk- jina_ tvly- lsv2_ pcsk_ wandb_v1_ PMAK- ATATT3 ATBB HRKU- nfp_ pscale_ rubygems_ NRAK- sntrys_ sntryu_ AGE-SECRET tgp_v1_ fm2_ secret_ cfut_ dp.pt. dp.st. EAA",
           r"(?:nvapi-|csk-|jina_|tvly-(?:[a-z]{3,4}-)?|lsv2_[ps][tk]_|pcsk_|wandb_v1_|PMAK-|ATATT3|ATBB|HRKU-|nfp_|pscale_(?:tkn|pw|oauth)_|rubygems_|NRAK-|sntry[su]_|AGE-SECRET-KEY-1|tgp_v1_|fm2_|secret_(?=[A-Za-z0-9]{40})|cfut_|dp\.[ps]t\.|EAA(?=[A-Za-z0-9]{90}))[\w+/=-]{20,}", _random),
    _shape("access_token", "LTAI", r"LTAI[A-Za-z0-9]{12,20}(?![A-Za-z0-9])", _mixed),
    _shape("access_token", "sk-lf-", r"sk-lf-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    _Rule("discord_token", (".",), re.compile(r"[MNO](?<![A-Za-z0-9][MNO])[A-Za-z0-9]{22,27}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])", re.A), _mixed),
    _shape("bearer_token", "earer EARER", r"(?:[bB]earer|BEARER)\s{1,3}([\w.~+/-]{16,}=*)", _opaque),
    _shape("basic_login", "asic BASIC", r"[aA]uthorization[\"']?\s{0,3}[:=,]\s{0,3}[\"']?(?:[bB]asic|BASIC)\s{1,3}([A-Za-z0-9+/]{12,}={0,2})"),
    _shape("url_password", "://", rf"""[A-Za-z][A-Za-z0-9+.-]{{1,20}}://(?!{_LOGIN}@)[^\s/:@?#"'`<>()]{{0,100}}:([^\s/"'`<>]{{1,200}})@(?=[\w\[])"""),
    _Rule("secret", ("key", "Key", "KEY", "token", "Token", "TOKEN", "secret", "Secret", "SECRET"), re.compile(rf"(?:[kK](?:ey|EY)|[tT](?:oken|OKEN)|[sS](?:ecret|ECRET)){_ASSIGNED}([\w+/=.~-]{{24,}})", re.A), _random),
)  # fmt: skip


def find(text: str) -> Counter:
    """How often each kind of credential occurs."""
    return Counter(span.kind for span in apart(spans(undisguised(text))))


def places(text: str) -> list[tuple[int, str]]:
    """Where in the text each credential begins, and its kind."""
    where = original_positions(text) if (found := apart(spans(undisguised(text)))) else []
    return [(where[span.start], span.kind) for span in found]


def spans(plain: str) -> Iterator[Span]:
    """Credentials in a text that `undisguised` has been over, in the order of the rules; they may overlap."""
    if not (_LONG.search(plain) or ("://" in plain and "@" in plain) or "asic " in plain or "PRIVATE KEY" in plain):
        return
    for kind, anchors, pattern, check in _RULES:
        for anchor in anchors:
            if anchor in plain:
                break
        else:
            continue
        for match in pattern.finditer(plain):
            group = match.lastindex or 0
            if check(match[group]):
                yield Span(*match.span(group), kind)


def apart(found: Iterable[Span]) -> list[Span]:
    """The spans in order of place, of those that overlap the one that came first."""
    found, chosen = list(found), []
    taken = bytearray(max((span.end for span in found), default=0))
    for span in found:
        if taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            chosen.append(span)
    return sorted(chosen)


def replaced(text: str, found: Iterable[Span]) -> str:
    """`text` with a placeholder such as [JWT] for each of the spans of its undisguised form."""
    where, pieces, end = original_positions(text), [], 0
    for span in apart(found):
        pieces += [text[end : where[span.start]], f"[{span.kind.upper()}]"]
        end = where[span.end - 1] + 1
    return "".join([*pieces, text[end:]])
