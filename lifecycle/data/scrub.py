"""Personal data and secrets become typed placeholders, counted by type. It finds what has a form, not a meaning: names
and street addresses stay. Precision first: a number is a telephone's only when it is written like one.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["API_KEY", "EMAIL", "IBAN", "IP", "PHONE"]

# Prefixes that vendors publish so that leaked keys can be found; each is followed by its random part.
API_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?:[^-]|-(?!----))*+-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----"
    r"|\b(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"  # Amazon Web Services
    r"|gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{50,}"
    r"|sk-(?:ant-|proj-)?[0-9A-Za-z_-]{20,}"  # Anthropic, OpenAI
    r"|[sr]k_live_[0-9A-Za-z]{20,}"  # Stripe
    r"|xox[abeprs]-[0-9A-Za-z-]{10,}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}"  # Google
    r"|hf_[0-9A-Za-z]{30,}"  # Hugging Face
    r"|glpat-[0-9A-Za-z_-]{20,}"  # GitLab
    r"|eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"  # a signed JSON web token (RFC 7519)
    r")"
)
# RFC 5322's dot-atom before the @, host names of RFC 1123 with at least one dot behind it. Lengths are RFC 5321's; they
# also keep the search linear.
EMAIL = re.compile(
    r"(?<![\w.+-])[\w!#$%&'*+/=?^`{|}~-]{1,64}(?:\.[\w!#$%&'*+/=?^`{|}~-]{1,64}){0,8}@"
    r"(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?\.){1,8}[A-Za-z][0-9A-Za-z-]{0,61}[0-9A-Za-z]"
)
# Digits are ASCII's, here and below.
IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?\b")
# The look back comes behind the first digit: `re` leaps from digit to digit, and would try it at every character.
IPV4 = re.compile(r"[0-9](?<![\w.][0-9])[0-9]{0,2}\.(?:[0-9]{1,3}\.){2}[0-9]{1,3}(?![\w]|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
# E.164 with its plus sign, or ten digits as North America groups them. Bare runs of digits are ids and quantities.
PHONE = re.compile(
    r"(?<![\w+.-])(?:\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}"
    r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4})"
    r"(?![\w]|[.-]\d)"
)
# Length by country: the IBAN registry (ISO 13616).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


class Scrubbing(BaseModel):
    """What is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kinds: tuple[Kind, ...] = Field(
        ("API_KEY", "EMAIL", "IBAN", "IP", "PHONE"), description="Each becomes its name in angle brackets: <EMAIL>."
    )
    public_ips_only: bool = Field(
        True,
        description="Leave 127.0.0.1 and 10.0.0.0/8: they name no one. A version of four numbers (3.8.11.1) "
        "is written like an address and goes, as in datatrove.",
    )


class Scrubbed(NamedTuple):
    """The text with placeholders, and how many of each kind."""

    text: str
    counts: dict[str, int]


def scrub(text: str, rule: Scrubbing) -> Scrubbed:
    """Personal data and secrets replaced. Doing it twice changes nothing more: no placeholder has such a form."""
    counts: Counter[str] = Counter()
    shape = text.encode(errors="replace").translate(_SHAPE)
    for kind, may_hold, pattern, is_real in _STEPS:
        if kind in rule.kinds and may_hold(text, shape):

            def replaced(match: re.Match[str], kind: Kind = kind, is_real: Check = is_real) -> str:
                if not is_real(match[0], rule):
                    return match[0]
                counts[kind] += 1
                return f"<{kind}>"

            text = pattern.sub(replaced, text)
    return Scrubbed(text, dict(counts))


def is_iban(candidate: str) -> bool:
    """Its country's length, and a remainder of 1 modulo 97 (ISO 7064)."""
    packed = candidate.replace(" ", "")
    if IBAN_LENGTHS.get(packed[:2]) != len(packed):
        return False
    return int("".join(str(int(character, 36)) for character in packed[4:] + packed[:4])) % 97 == 1


def is_ip(candidate: str, *, public_only: bool) -> bool:
    """An address that exists and, if asked, is reachable from anywhere (the IANA special-purpose registries)."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return address.is_global or not public_only


def is_phone(candidate: str) -> bool:
    """Of 8 to 15 digits (E.164 allows no more)."""
    return 8 <= sum(map(str.isdigit, candidate)) <= 15


Check = Callable[[str, Scrubbing], bool]
# Most texts hold nothing of the kind, and looking for the fixed part of each is ten times as fast as its pattern. The
# shape of a text is its bytes with every digit a 0 and every capital an A.
_SHAPE = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
_BEFORE_LOW_LINE = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "k_live_", "hf_")
_KEY_AFTER_LOW_LINE = re.compile(r"_[0-9A-Za-z_]{20}")
_KEY_AFTER_SK = re.compile(r"sk-[0-9A-Za-z_-]{20}")
_SEVEN_COLONS = re.compile(r":(?:[0-9A-Fa-f]{1,4}:){6}")
_FOUR_NUMBERS = re.compile(rb"0\.0{1,3}\.0")
_SEVEN_DIGITS = re.compile(rb"000[ .-]0000")


def _may_hold_key(text: str, shape: bytes) -> bool:
    """One character is found ten times as fast as four, so it is asked for first."""
    return (
        ("_" in text and _KEY_AFTER_LOW_LINE.search(text) is not None and any(s in text for s in _BEFORE_LOW_LINE))
        or ("-" in text and ("xox" in text or "glpat-" in text or _KEY_AFTER_SK.search(text) is not None))
        or (b"AAAA" in shape and ("AKIA" in text or "ASIA" in text or "PRIVATE KEY" in text))
        or ("J" in text and "eyJ" in text)
        or "AIza" in text
    )


def _may_hold_email(text: str, shape: bytes) -> bool:
    return "@" in text


def _may_hold_iban(text: str, shape: bytes) -> bool:
    return b"AA00" in shape


def _may_hold_ipv4(text: str, shape: bytes) -> bool:
    return b"0.0" in shape and _FOUR_NUMBERS.search(shape) is not None


def _may_hold_ipv6(text: str, shape: bytes) -> bool:
    """An address has eight groups, or two colons for those left out; a time of day has neither."""
    return ":" in text and ("::" in text or _SEVEN_COLONS.search(text) is not None)


def _may_hold_phone(text: str, shape: bytes) -> bool:
    return b"+0" in shape or (b"0000" in shape and _SEVEN_DIGITS.search(shape) is not None)


# In this order: a key may hold an address's form, an IBAN or an IP a telephone's.
_STEPS: tuple[tuple[Kind, Callable[[str, bytes], bool], re.Pattern[str], Check], ...] = (
    ("API_KEY", _may_hold_key, API_KEY, lambda found, rule: True),
    ("EMAIL", _may_hold_email, EMAIL, lambda found, rule: True),
    ("IBAN", _may_hold_iban, IBAN, lambda found, rule: is_iban(found)),
    ("IP", _may_hold_ipv4, IPV4, lambda found, rule: is_ip(found, public_only=rule.public_ips_only)),
    ("IP", _may_hold_ipv6, IPV6, lambda found, rule: is_ip(found, public_only=rule.public_ips_only)),
    ("PHONE", _may_hold_phone, PHONE, lambda found, rule: is_phone(found)),
)
