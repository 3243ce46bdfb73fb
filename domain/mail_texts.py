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
    SECOND_FACTOR_ON = "second_factor_on"
    SECOND_FACTOR_OFF = "second_factor_off"
    SECOND_FACTOR_RESET = "second_factor_reset"
    RECOVERY_CODE_USED = "recovery_code_used"


SUBJECTS: dict[str, dict[Kind, str]] = {
    "en": {
        Kind.RESET: "Set a new password",
        Kind.VERIFY: "Verify your e-mail address",
        Kind.CHANGE: "Confirm your new e-mail address",
        Kind.PASSWORD_CHANGED: "Your password was changed",
        Kind.EMAIL_CHANGED: "Your e-mail address was changed",
        Kind.REGISTRATION_TRIED: "Somebody tried to register with your address",
        Kind.SECOND_FACTOR_ON: "The second factor was turned on",
        Kind.SECOND_FACTOR_OFF: "The second factor was turned off",
        Kind.SECOND_FACTOR_RESET: "The second factor was reset",
        Kind.RECOVERY_CODE_USED: "A recovery code was used",
    },
    "ko": {
        Kind.RESET: "비밀번호 재설정",
        Kind.VERIFY: "이메일 주소 확인",
        Kind.CHANGE: "새 이메일 주소 확인",
        Kind.PASSWORD_CHANGED: "비밀번호가 변경되었습니다",
        Kind.EMAIL_CHANGED: "이메일 주소가 변경되었습니다",
        Kind.REGISTRATION_TRIED: "회원님의 주소로 가입 시도가 있었습니다",
        Kind.SECOND_FACTOR_ON: "2단계 인증이 켜졌습니다",
        Kind.SECOND_FACTOR_OFF: "2단계 인증이 꺼졌습니다",
        Kind.SECOND_FACTOR_RESET: "2단계 인증이 초기화되었습니다",
        Kind.RECOVERY_CODE_USED: "복구 코드가 사용되었습니다",
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
        # A new password ends every session, and the next login asks for a code that somebody else has: off comes first.
        Kind.SECOND_FACTOR_ON: "From now on a login to your account asks for a code of an app, too.\n\n"
        "If that was not you, turn it off with your password where you are still logged in, and then set a new"
        " password. If you are logged in nowhere, write to the people who run this service at once.",
        Kind.SECOND_FACTOR_OFF: "A login to your account does not ask for a code of an app any more.\n\n"
        "If that was not you, set a new password at once (forgot password), and turn the second factor on again.",
        Kind.SECOND_FACTOR_RESET: "The people who run this service have turned off the second factor of your account: a"
        " login does not ask for a code any more. Turn it on again once you have an app for it.\n\n"
        "If you did not ask for that, set a new password (forgot password), and write to them at once.",
        Kind.RECOVERY_CODE_USED: "A recovery code of your account took the place of a code of your app. It can't be"
        " used again.\n\n"
        "If that was not you, set a new password at once (forgot password), and get other recovery codes.",
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
        Kind.SECOND_FACTOR_ON: "앞으로 로그인할 때 인증 앱의 코드도 입력해야 합니다.\n\n"
        "본인이 켜지 않았다면 아직 로그인되어 있는 기기에서 비밀번호로 2단계 인증을 끈 다음 비밀번호를 변경해 주세요."
        " 로그인된 기기가 없다면 지금 바로 서비스 운영자에게 알려 주세요.",
        Kind.SECOND_FACTOR_OFF: "이제 로그인할 때 인증 앱의 코드를 묻지 않습니다.\n\n"
        "본인이 끄지 않았다면 지금 바로 비밀번호를 재설정하고 2단계 인증을 다시 켜 주세요.",
        Kind.SECOND_FACTOR_RESET: "서비스 운영자가 계정의 2단계 인증을 초기화하여, 이제 로그인할 때 코드를 묻지"
        " 않습니다. 인증 앱이 준비되면 다시 켜 주세요.\n\n"
        "본인이 요청하지 않았다면 비밀번호를 재설정하고 지금 바로 운영자에게 알려 주세요.",
        Kind.RECOVERY_CODE_USED: "인증 앱의 코드 대신 복구 코드가 사용되었습니다. 사용된 코드는 다시 쓸 수"
        " 없습니다.\n\n본인이 사용하지 않았다면 지금 바로 비밀번호를 재설정하고 복구 코드를 새로 발급받아 주세요.",
    },
}
_LINK = {"en": "Open this:", "ko": "다음 링크를 열어 주세요:"}
_TOKEN = {"en": "Or enter this token where it is asked for:", "ko": "또는 다음 토큰을 입력해 주세요:"}
_ONLY_TOKEN = {"en": "Enter this token where it is asked for:", "ko": "다음 토큰을 입력해 주세요:"}
_GOOD_FOR = {
    "en": "It is good once, within {hours} h. If you did not ask for it, there is nothing to do.",
    "ko": "{hours}시간 안에 한 번만 사용할 수 있습니다. 요청하지 않으셨다면 아무것도 하지 않으셔도 됩니다.",
}
_LEFT = {"en": "Recovery codes that are left: {left}.", "ko": "남은 복구 코드: {left}개"}


def render(
    kind: Kind, language: str, *, token: str = "", public_url: str = "", hours: int = 0, left: int | None = None
) -> tuple[str, str]:
    """Subject and text in `language` (en, ko). `token`: of those that carry one, good for `hours`.

    `left`: how many recovery codes are left, where that is told.
    """
    says = [SAYS[language][kind]]
    if token:
        if public_url:
            link = f"{public_url}/{PAGES[Purpose(kind.value)]}#token={token}"
            says += [f"{_LINK[language]}\n{link}", f"{_TOKEN[language]}\n{token}"]
        else:
            says.append(f"{_ONLY_TOKEN[language]}\n{token}")
        says.append(_GOOD_FOR[language].format(hours=hours))
    if left is not None:
        says.append(_LEFT[language].format(left=left))
    return SUBJECTS[language][kind], "\n\n".join(says) + "\n"
