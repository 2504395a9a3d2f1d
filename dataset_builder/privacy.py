"""Personal data in any message of a turn: e-mail addresses, phone numbers, and numbers that identify or pay.

`find` is used to drop a turn, `redact` to keep it with placeholders. Numbers count only in a shape that people write
phone numbers in, and card numbers only with a valid check digit, so that code, tables and dates stay.
"""

import hashlib
import re
from collections import Counter

PERSONAL_DATA = "personal_data"

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[a-z]{2,24}(?![a-z@])", re.I | re.A)
_PHONE = re.compile(
    r"""(?<![\w.+/-])(?:
        \+(?!1[\s.-]?[01])[1-9]\d{0,2}[\s.-]?(?:\(\d{1,4}\)[\s.-]?)?\d{1,4}(?:[\s.-]?\d{2,4}){2,4}
      | \(\d{3}\)[\s.-]?\d{3}[\s.-]\d{4}
      | (?:1[.-])?\d{3}[.-]\d{3}[.-]\d{4}
      | (?<!\d\s)1\ [2-9]\d\d\ [2-9]\d\d\ \d{4}(?!\s\d)
      | (?:86[\s-]?)?1[3-9]\d{9}
      | (?:86[\s-])?1[3-9]\d[\s-]\d{4}[\s-]\d{4}
      | 0(?:10|2\d|[3-9]\d\d)-\d{7,8}
    )(?![\w/-]|\.\d)""",
    re.X | re.A,
)
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{4}[ -]){3}\d{1,7}(?![\w-])|(?<![\w.-])\d{4}[ -]\d{6}[ -]\d{5}(?![\w-])|(?<![\w.-])\d{15,16}(?![\w-])",
    re.A,
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])", re.A)
# Of a Chinese citizen: region, day of birth, number, check digit.
_CITIZEN = re.compile(
    r"(?<![\w.-])[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\w-])", re.A
)
# What looks like an address and is none: a file of a name such as logo@2x.png, and the logins of machines.
_NO_ADDRESS = re.compile(
    r"\.(?:avif|css|gif|html?|ico|jpe?g|js|json|mp[34]|pdf|png|svg|tiff?|webm|webp)$|^(?:ec2-user|git|hg|root|svn|ubuntu|www-data)@",
    re.I,
)
# Names reserved for examples are nobody's address.
_EXAMPLE = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|test|invalid|localhost|email\.com|domain\.com)$", re.I
)
_FICTION = re.compile(r"555[\s.-]?01\d\d\b|\b123[\s.-]?456[\s.-]?7890\b|555[\s.-]?555[\s.-]?5555")
_KINDS = (("email", _EMAIL), ("citizen_id", _CITIZEN), ("card", _CARD), ("ssn", _SSN), ("phone", _PHONE))
_HINT = re.compile(r"@|\d{3}")


def published_name(user_id: str | None, key: str) -> str | None:
    """What a user is called in the dataset: without the key, no list of addresses tells who it is."""
    if user_id is None:
        return None
    return hashlib.blake2b(user_id.encode(), key=bytes.fromhex(key), digest_size=8).hexdigest()


def find(text: str) -> Counter:
    """How often each kind of personal data occurs: email, citizen_id, card, ssn, phone."""
    found: Counter = Counter()
    if _HINT.search(text):
        redact(text, found)
    return found


def redact(text: str, found: Counter | None = None) -> str:
    """`text` with placeholders such as [EMAIL]; occurrences are added to `found`."""
    if not _HINT.search(text):
        return text
    for kind, pattern in _KINDS:
        if kind == "email" and "@" not in text:
            continue

        def replace(match: re.Match, kind: str = kind) -> str:
            if not _is_personal(kind, match.group()):
                return match.group()
            if found is not None:
                found[kind] += 1
            return f"[{kind.upper()}]"

        text = pattern.sub(replace, text)
    return text


def _is_personal(kind: str, text: str) -> bool:
    if kind == "email":
        return not (_EXAMPLE.search(text) or _NO_ADDRESS.search(text))
    if kind == "phone":
        digits = "".join(filter(str.isdigit, text))
        return not _FICTION.search(text) and len(digits) >= 10 and int(digits).bit_count() > 1  # 2³⁴ is a number
    if kind == "citizen_id":
        return _citizen_check(text)
    if kind == "card":
        return _luhn([int(character) for character in text if character.isdigit()])
    return True


def _citizen_check(number: str) -> bool:
    """ISO 7064 MOD 11-2, as GB 11643 prescribes."""
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def _luhn(digits: list[int]) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0
