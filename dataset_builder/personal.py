"""Shapes of personal data: addresses of people and machines, phone numbers, and numbers that identify or pay.

Numbers count only in a shape that people write them in, and where they have check digits (cards, accounts, most national
numbers: `stdnum`), only with the right ones, so that code, tables and dates stay. Which phone numbers exist, and how each
country groups them, `phonenumbers` knows. All patterns run over text that `wildreward.common.disguise.undisguised` has been over.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple

from wildreward.common.credentials import Span

_EMAIL = re.compile(r"(?<![\w.+-])[\wÀ-ɏ.+-]{1,64}@(?:[\wÀ-ɏ-]{1,63}\.){1,4}[a-zÀ-ɏ]{2,24}(?![a-z@])", re.I | re.A)
_SPELT_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64} ?[\[(]at[\])] ?[\w-]{1,63}(?:(?:\.| ?[\[(]dot[\])] ?)[a-z][\w-]{1,62}){1,4}",
    re.I | re.A,
)
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
# A number after a word that says what it is: any grouping will do.
_CALLED_PHONE = re.compile(
    r"""(?:\b(?:phone|tel(?:e(?:phone|fon[eo]?))?|t[ée]l(?:[ée]phone|[ée]fono)?|mobile|cell|whats\s?app|handy(?:nummer)?|celular|m[óo]vil
          |portable|call\ (?:me|us|him|her)|text\ me|fax|sms)\b|电话|手机|電話|手機|携帯|전화|휴대폰|телефон)
        (?:\s?(?:number|no|nr|nummer|号码|号|番号|번호|is|at|on|me|ist|es|est|является|[是为は:：#.()=-])[\s.:]{0,2}){0,4}\s{0,2}
        (\+?\(?\d(?:[\s().\-/]{0,2}\d){6,14})(?![\w-]|\.\d)""",
    re.X | re.I,
)
# What may be a number as people of one country write it to each other: with the 0 (Russia: 8), or brackets, before it.
_DOMESTIC = re.compile(
    r"(?<![\w.,+/:-])(?:(?:\(?0\d|\(\d\d\)|8[ (-]{1,2}9)(?:[ ().\-/]{0,2}\d){7,10}|[6-9]\d{4}[ -]\d{5})(?!\w|[.-]\d)",
    re.A,
)
_REGIONS = ("GB", "DE", "FR", "IT", "NL", "CH", "AT", "BR", "IN", "JP", "KR", "AU", "RU")
_INTERNATIONAL = re.compile(r"\+ ?\(?\d(?:[ .()/-]{0,3}\d){6}|(?<![\w.+-])00[1-9](?:[ .()/-]{0,3}\d){8}", re.A)
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{4}[ -]){3}\d{1,7}(?![\w-])|(?<![\w.-])\d{4}[ -]\d{6}[ -]\d{5}(?![\w-])|(?<![\w.-])\d{15,16}(?![\w-])",
    re.A,
)
# What cards begin with, and how long they then are.
_ISSUED = re.compile(r"3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:2[2-7]|35|4\d|5[0-8]|6\d)\d{11,17}")
_SSN = re.compile(
    r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"
    r"|(?:\bssn|social security)\W{0,3}(?:(?:number|no|is|#)\W{0,3}){0,3}((?!000|666|9)\d{3} ?(?!00)\d\d ?(?!0000)\d{4})(?!\w)",
    re.A | re.I,
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?", re.A)
_IPV4 = re.compile(
    r"(?<![\w.:/-])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d|-\d|/\d)|(?<=//)(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.A
)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:.]*[g-z_])", re.A | re.I)
_VERSION = re.compile(
    r"(?:\bv|version|release|build|update|firmware|driver|chrome|firefox|section|chapter|§|oid)[\s:=/.]{0,3}$", re.I
)
# Servers that everybody asks for names.
_RESOLVERS = frozenset(["8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"])
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


class _National(NamedTuple):
    """A country's numbers for people: `pattern` in text, `check` a module of `stdnum`; `named`: only after one of the words,
    because bare digits are too common."""

    check: str
    pattern: str
    named: str = ""
    kind: str = "national_id"


_NATIONAL = (
    _National("cn.ric", r"[1-9]\d{16}[\dXx]", kind="citizen_id"),
    _National("kr.rrn", r"\d{6}-\d{7}"),
    _National("fr.nir", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"),
    _National("it.codicefiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]"),
    _National("es.dni", r"\d{8}-?[A-HJ-NP-TV-Z]"),
    _National("es.nie", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]"),
    _National("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d"),
    _National("br.cpf", r"\d{11}", "cpf"),
    _National("in_.aadhaar", r"[2-9]\d{3} \d{4} \d{4}"),
    _National("in_.aadhaar", r"[2-9]\d{11}", "aadhaar|uid|आधार"),
    _National("de.idnr", r"\d\d \d{3} \d{3} \d{3}"),
    _National("de.idnr", r"\d{11}", "steuer-?id|id-?nr|identifikationsnummer|tax id"),
    _National("be.nn", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"),
    _National("ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d\d"),
    _National("cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]"),
    _National("mx.curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d"),
    _National("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Z]"),
    _National("se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}"),
    _National("pl.pesel", r"\d{11}", "pesel"),
    _National("nl.bsn", r"\d{9}|\d{4}\.\d\d\.\d{3}", "bsn|burgerservicenummer"),
    _National("ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "sin|social insurance"),
    _National("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "nhs"),
    _National("tr.tckimlik", r"\d{11}", "kimlik|tckn"),
    _National(
        "", r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"
    ),  # United Kingdom
)
_AFTER = r"(?![\w-]|[. ]\d)"


def _in_place(rule: _National) -> re.Pattern:
    before = (
        rf"(?<![^\W_])(?i:{rule.named})(?![^\W\d_])\D{{0,30}}?(?<![\w.-])" if rule.named else r"(?<![\w.+-])(?<!\d )"
    )
    return re.compile(rf"{before}({rule.pattern}){_AFTER}", re.A)


_NATIONAL_PATTERNS = [(rule, _in_place(rule)) for rule in _NATIONAL]
_SOME_NATIONAL = re.compile(
    rf"(?<![\w.-])(?:{'|'.join(dict.fromkeys(rule.pattern for rule in _NATIONAL))}){_AFTER}", re.A
)
# Where a line has none of these (digits in a row; inside a codice fiscale; the beginning of an IPv6 address), there is no number.
_HINT = re.compile(r"\d(?:(?:[ .()/-]{0,3}\d){5}|\d[A-Z]\d\d[A-Z]\d|[\da-f]{3}:[\da-fA-F:])", re.A)


def spans(plain: str) -> Iterator[Span]:
    """Personal data in an undisguised text, the surest kinds first; spans may overlap. A number stands on one line."""
    if "@" in plain:
        yield from _matches("email", _EMAIL, plain, _is_address)
    if "[at]" in (lowered := plain.lower()) or "(at)" in lowered:
        yield from _matches("email", _SPELT_EMAIL, plain)
    end = 0
    while hint := _HINT.search(plain, end):
        start = plain.rfind("\n", 0, hint.start()) + 1
        end = plain.find("\n", hint.end()) % (len(plain) + 1)  # -1, the last line: up to the end
        for span in _numbers(plain[start:end]):
            yield Span(start + span.start, start + span.end, span.kind)


def _numbers(plain: str) -> Iterator[Span]:
    if _SOME_NATIONAL.search(plain):
        for rule, pattern in _NATIONAL_PATTERNS:
            yield from _matches(rule.kind, pattern, plain, _checker(rule.check))
    for match in _IBAN.finditer(plain):
        for end in range(match.end(), match.start() + 14, -1):  # words may follow
            if not plain[end : end + 1].isalnum() and _checker("iban")(plain[match.start() : end]):
                yield Span(match.start(), end, "iban")
                break
    yield from _matches("ip_address", _IPV6, plain, _is_public)
    yield from _matches("card", _CARD, plain, _is_card)
    yield from _matches("ssn", _SSN, plain)
    yield from (
        span
        for span in _matches("ip_address", _IPV4, plain, _is_public)
        if not _VERSION.search(plain[: span.start][-12:])
    )
    yield from _matches("phone", _PHONE, plain, _is_phone)
    yield from _matches("phone", _CALLED_PHONE, plain, lambda number: not _FICTION.search(number))
    yield from _known_phones(plain)


def _known_phones(plain: str) -> Iterator[Span]:
    """Numbers that exist, in international spelling or in a country's own."""
    for match in _INTERNATIONAL.finditer(plain):
        from phonenumbers import Leniency, PhoneNumberMatcher

        for found in PhoneNumberMatcher(plain[match.start() : match.end() + 20], "GB", Leniency.VALID, 10):
            yield Span(match.start() + found.start, match.start() + found.end, "phone")
    yield from _matches("phone", _DOMESTIC, plain, _is_domestic)


@lru_cache(maxsize=4096)
def _is_domestic(text: str) -> bool:
    """Whether one of the countries has this number and groups its digits so, or not at all."""
    from phonenumbers import NumberParseException, PhoneNumberFormat, format_number, is_valid_number_for_region, parse

    groups = re.findall(r"\d+", text)
    if len(set("".join(groups))) <= 2:  # 01100001 is binary
        return False
    for region in _REGIONS:
        try:
            number = parse(text, region)
        except NumberParseException:
            continue
        if is_valid_number_for_region(number, region):
            usual = re.findall(r"\d+", format_number(number, PhoneNumberFormat.NATIONAL))
            if len(groups) == 1 or [groups[0].lstrip("0"), *groups[1:]] == [usual[0].lstrip("0"), *usual[1:]]:
                return True
    return False


def _matches(
    kind: str, pattern: re.Pattern, plain: str, check: Callable[[str], bool] = lambda text: True
) -> Iterator[Span]:
    for match in pattern.finditer(plain):
        group = match.lastindex or 0
        if check(match[group]):
            yield Span(*match.span(group), kind)


@cache
def _checker(module: str) -> Callable[[str], bool]:
    return import_module(f"stdnum.{module}").is_valid if module else lambda number: True


def _is_address(text: str) -> bool:
    return not (_EXAMPLE.search(text) or _NO_ADDRESS.search(text))


def _is_phone(text: str) -> bool:
    digits = "".join(filter(str.isdigit, text))
    return not _FICTION.search(text) and len(digits) >= 10 and int(digits).bit_count() > 1  # 2³⁴ is a number


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(_ISSUED.fullmatch(digits)) and _checker("luhn")(digits)


def _is_public(address: str) -> bool:
    """An address of one machine on the internet; short numbers are sections and versions, `.0` a network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.version == 6:
        return parsed.is_global
    octets = address.split(".")
    long = sum(len(octet) > 1 for octet in octets)
    return parsed.is_global and long > 1 and octets[3] not in ("0", "255") and address not in _RESOLVERS
