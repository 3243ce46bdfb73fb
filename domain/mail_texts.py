"""What mails say, in each language. Nothing in them was written by a stranger but the address they go to."""

from enum import StrEnum

from domain.account_states import Purpose

PAGES = {Purpose.RESET: "reset-password", Purpose.VERIFY: "verify-email", Purpose.CHANGE: "confirm-email"}
"""The page of an app that a link leads to. The token stands behind `#`, where no server gets to see it."""


class Kind(StrEnum):
    """The sorts of mails."""

    RESET = "reset"
    VERIFY = "verify"
    CHANGE = "change"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a sort of mail, not a secret)
    EMAIL_CHANGED = "email_changed"
    REGISTRATION_TRIED = "registration_tried"


SUBJECTS: dict[str, dict[Kind, str]] = {
    "en": {
        Kind.RESET: "Set a new password",
        Kind.VERIFY: "Verify your e-mail address",
        Kind.CHANGE: "Confirm your new e-mail address",
        Kind.PASSWORD_CHANGED: "Your password was changed",
        Kind.EMAIL_CHANGED: "Your e-mail address was changed",
        Kind.REGISTRATION_TRIED: "Somebody tried to register with your address",
    },
    "ko": {
        Kind.RESET: "비밀번호 재설정",
        Kind.VERIFY: "이메일 주소 확인",
        Kind.CHANGE: "새 이메일 주소 확인",
        Kind.PASSWORD_CHANGED: "비밀번호가 변경되었습니다",
        Kind.EMAIL_CHANGED: "이메일 주소가 변경되었습니다",
        Kind.REGISTRATION_TRIED: "회원님의 주소로 가입 시도가 있었습니다",
    },
}
SAYS: dict[str, dict[Kind, str]] = {
    "en": {
        Kind.RESET: "Somebody, probably you, wants to set a new password for the account with this address.",
        Kind.VERIFY: "An account was made with this address. Show that it is yours.",
        Kind.CHANGE: "Somebody, probably you, wants this address for an account. It takes its place once you confirm.",
        Kind.PASSWORD_CHANGED: "The password of your account was changed, and other devices were logged out.\n\n"
        "If that was not you, set a new password at once (forgot password).",
        Kind.EMAIL_CHANGED: "The address of your account is another one now; mails go there, and no longer here.\n\n"
        "If that was not you, write to the people who run this service at once.",
        Kind.REGISTRATION_TRIED: "Somebody, perhaps you, tried to register with this address. There is an account"
        " already: log in, or set a new password (forgot password).\n\nIf that was not you, there is nothing to do.",
    },
    "ko": {
        Kind.RESET: "이 주소로 가입된 계정의 비밀번호 재설정 요청이 있었습니다.",
        Kind.VERIFY: "이 주소로 계정이 생성되었습니다. 본인의 주소인지 확인해 주세요.",
        Kind.CHANGE: "이 주소를 계정의 새 이메일로 사용하려는 요청이 있었습니다. 확인하시면 변경됩니다.",
        Kind.PASSWORD_CHANGED: "계정의 비밀번호가 변경되었고, 다른 기기에서 로그아웃되었습니다.\n\n"
        "본인이 변경하지 않았다면 지금 바로 비밀번호를 재설정해 주세요.",
        Kind.EMAIL_CHANGED: "계정의 이메일 주소가 변경되어, 앞으로 메일은 새 주소로 발송됩니다.\n\n"
        "본인이 변경하지 않았다면 지금 바로 서비스 운영자에게 알려 주세요.",
        Kind.REGISTRATION_TRIED: "이 주소로 가입하려는 시도가 있었습니다. 이미 계정이 있으니 로그인하거나 비밀번호를"
        " 재설정해 주세요.\n\n본인이 아니라면 아무것도 하지 않으셔도 됩니다.",
    },
}
_LINK = {"en": "Open this:", "ko": "다음 링크를 열어 주세요:"}
_TOKEN = {"en": "Or enter this token where it is asked for:", "ko": "또는 다음 토큰을 입력해 주세요:"}
_ONLY_TOKEN = {"en": "Enter this token where it is asked for:", "ko": "다음 토큰을 입력해 주세요:"}
_GOOD_FOR = {
    "en": "It is good once, within {hours} h. If you did not ask for it, there is nothing to do.",
    "ko": "{hours}시간 안에 한 번만 사용할 수 있습니다. 요청하지 않으셨다면 아무것도 하지 않으셔도 됩니다.",
}


def render(kind: Kind, language: str, *, token: str = "", public_url: str = "", hours: int = 0) -> tuple[str, str]:
    """Subject and text in `language` (en, ko). `token`: of those that carry one, good for `hours`."""
    says = [SAYS[language][kind]]
    if token:
        if public_url:
            link = f"{public_url}/{PAGES[Purpose(kind.value)]}#token={token}"
            says += [f"{_LINK[language]}\n{link}", f"{_TOKEN[language]}\n{token}"]
        else:
            says.append(f"{_ONLY_TOKEN[language]}\n{token}")
        says.append(_GOOD_FOR[language].format(hours=hours))
    return SUBJECTS[language][kind], "\n\n".join(says) + "\n"
