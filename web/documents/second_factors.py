"""Second factors, declared."""

from domain.refusals import Code
from web import second_factors
from web.documents import shapes
from web.documents.declared import Endpoint, nothing, one

TAG = "Second factor"
PASSWORD = {"password": "correct horse"}
OWN = (Code.NOT_FOUND, Code.ACCOUNT_ERASED)

ENDPOINTS: dict[str, Endpoint] = {
    "GET /users/me/second-factor": Endpoint(
        tag=TAG,
        summary="See whether a second factor is on",
        answers={200: one(shapes.SecondFactor, "Whether it is.")},
        refuses=OWN,
    ),
    "POST /users/me/second-factor": Endpoint(
        tag=TAG,
        summary="Begin a second factor",
        says="Show the `uri` as a QR code. Nothing asks for codes before the first one has come. One that was begun"
        " before is replaced.",
        body=second_factors.BEGINNING,
        example=PASSWORD,
        answers={201: one(shapes.Secret, "The secret, shown this once.")},
        command=True,
        awaited=True,
        refuses=(*OWN, Code.WRONG_PASSWORD, Code.SECOND_FACTOR_ON),
    ),
    "POST /users/me/second-factor/confirm": Endpoint(
        tag=TAG,
        summary="Turn it on by the first code",
        says="From now on a login asks for a code. Sessions go on.",
        body=second_factors.FIRST_CODE,
        example={"code": "$CODE"},
        answers={200: one(shapes.RecoveryCodes, "Ten recovery codes, shown this once.")},
        command=True,
        awaited=True,
        refuses=(*OWN, Code.WRONG_CODE, Code.SECOND_FACTOR_ON, Code.SECOND_FACTOR_OFF),
    ),
    "POST /users/me/second-factor/recovery-codes": Endpoint(
        tag=TAG,
        summary="Get other recovery codes",
        says="Those from before are over. Send the password, or a code.",
        body=second_factors.PROVING,
        besides={"minProperties": 1},
        example=PASSWORD,
        answers={200: one(shapes.RecoveryCodes, "Ten recovery codes, shown this once.")},
        command=True,
        awaited=True,
        refuses=(*OWN, Code.WRONG_PASSWORD, Code.WRONG_CODE, Code.SECOND_FACTOR_OFF),
    ),
    "DELETE /users/me/second-factor": Endpoint(
        tag=TAG,
        summary="Turn it off",
        says="Send the password, or a code. Sessions go on.",
        body=second_factors.PROVING,
        besides={"minProperties": 1},
        example=PASSWORD,
        answers={204: nothing("No login asks for a code any more.")},
        command=True,
        awaited=True,
        refuses=(*OWN, Code.WRONG_PASSWORD, Code.WRONG_CODE, Code.SECOND_FACTOR_OFF),
    ),
    "DELETE /users/{id}/second-factor": Endpoint(
        tag=TAG,
        summary="Turn off that of another account",
        says="For admins, where somebody has lost the app and every recovery code. Make sure that it is them.",
        answers={204: nothing("It is off.")},
        command=True,
        keyed=True,
        refuses=(Code.SECOND_FACTOR_OFF,),
    ),
}
