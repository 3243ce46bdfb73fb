"""The full-stack FastAPI template's items, rebuilt: the template itself asks for Python 3.14 and a built web page.

Rebuilt from github.com/fastapi/full-stack-fastapi-template at 68adb40 (MIT licence): the same models, dependencies and
statements in the same order. Each request decodes the token (HS256) and loads the account by SQL in the session of its
own; endpoints are functions that FastAPI runs in threads; a list counts all of its items; passwords are argon2 or
bcrypt by pwdlib. CORS is as there. Its other endpoints, the page, mail and Sentry (off there by default, too) are left
out. It is served as its Dockerfile does, by uvicorn's workers with an access log, two of them here.
"""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from jwt.exceptions import InvalidTokenError
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import EmailStr, ValidationError
from sqlalchemy import DateTime
from sqlmodel import Field, Relationship, Session, SQLModel, col, create_engine, func, select
from starlette.middleware.cors import CORSMiddleware

API = "/api/v1"
KEY = "a made-up key of the bench: 32 bytes or more, as HS256 wants it"
LIFE = timedelta(days=8)
engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
passwords = PasswordHash((Argon2Hasher(), BcryptHasher()))


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


class UserBase(SQLModel):
    """What accounts have in common."""

    email: EmailStr = Field(unique=True, index=True, max_length=255)
    is_active: bool = True
    is_superuser: bool = False
    full_name: str | None = Field(default=None, max_length=255)


class User(UserBase, table=True):
    """An account."""

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    hashed_password: str
    created_at: datetime | None = Field(default_factory=now, sa_type=DateTime(timezone=True))
    items: list["Item"] = Relationship(back_populates="owner", cascade_delete=True)


class ItemBase(SQLModel):
    """What items have in common."""

    title: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=255)


class ItemCreate(ItemBase):
    """What a client sends."""


class Item(ItemBase, table=True):
    """An item."""

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    created_at: datetime | None = Field(default_factory=now, sa_type=DateTime(timezone=True))
    owner_id: uuid.UUID = Field(foreign_key="user.id", nullable=False, ondelete="CASCADE")
    owner: User | None = Relationship(back_populates="items")


class ItemPublic(ItemBase):
    """What a client gets."""

    id: uuid.UUID
    owner_id: uuid.UUID
    created_at: datetime | None = None


class ItemsPublic(SQLModel):
    """A list."""

    data: list[ItemPublic]
    count: int


class Token(SQLModel):
    """The answer of a login."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 (it is the kind of token)


class TokenPayload(SQLModel):
    """What stands in a token."""

    sub: str | None = None


def session() -> Iterator[Session]:
    """One for each request."""
    with Session(engine) as opened:
        yield opened


InSession = Annotated[Session, Depends(session)]


def caller(session: InSession, token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl=f"{API}/login"))]) -> User:
    """Who sends this token."""
    try:
        payload = TokenPayload(**jwt.decode(token, KEY, algorithms=["HS256"]))
    except (InvalidTokenError, ValidationError):
        raise HTTPException(status_code=403, detail="Could not validate credentials") from None
    user = session.get(User, payload.sub)
    if not user:
        raise HTTPException(status_code=404, detail="User not found")
    if not user.is_active:
        raise HTTPException(status_code=400, detail="Inactive user")
    return user


Caller = Annotated[User, Depends(caller)]
items = APIRouter(prefix="/items", tags=["items"])
others = APIRouter(tags=["login"])


@items.get("/", response_model=ItemsPublic)
def read_items(session: InSession, current_user: Caller, skip: int = 0, limit: int = 100) -> Any:
    """Those of the caller, all of them for a superuser; the newest first."""
    count_statement = select(func.count()).select_from(Item)
    statement = select(Item)
    if not current_user.is_superuser:
        count_statement = count_statement.where(Item.owner_id == current_user.id)
        statement = statement.where(Item.owner_id == current_user.id)
    count = session.exec(count_statement).one()
    found = session.exec(statement.order_by(col(Item.created_at).desc()).offset(skip).limit(limit)).all()
    return ItemsPublic(data=[ItemPublic.model_validate(item) for item in found], count=count)


@items.get("/{id}", response_model=ItemPublic)
def read_item(session: InSession, current_user: Caller, id: uuid.UUID) -> Any:
    """One of them."""
    item = session.get(Item, id)
    if not item:
        raise HTTPException(status_code=404, detail="Item not found")
    if not current_user.is_superuser and (item.owner_id != current_user.id):
        raise HTTPException(status_code=403, detail="Not enough permissions")
    return item


@items.post("/", response_model=ItemPublic)
def create_item(*, session: InSession, current_user: Caller, item_in: ItemCreate) -> Any:
    """A new one of the caller's."""
    item = Item.model_validate(item_in, update={"owner_id": current_user.id})
    session.add(item)
    session.commit()
    session.refresh(item)
    return item


@others.post("/login/access-token")
def login(session: InSession, form_data: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    """A token for a password."""
    user = session.exec(select(User).where(User.email == form_data.username)).first()
    if user is None or not passwords.verify(form_data.password, user.hashed_password):
        raise HTTPException(status_code=400, detail="Incorrect email or password")
    token = jwt.encode({"exp": now() + LIFE, "sub": str(user.id)}, KEY, algorithm="HS256")
    return Token(access_token=token)


@others.get("/utils/health-check/")
async def health() -> bool:
    """It runs."""
    return True


app = FastAPI(title="Full-stack FastAPI template, rebuilt", openapi_url=f"{API}/openapi.json")
app.add_middleware(
    CORSMiddleware,
    allow_origins=["http://localhost:5173"],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
app.include_router(items, prefix=API)
app.include_router(others, prefix=API)


def main() -> None:
    """Tables and the account, before any worker serves."""
    SQLModel.metadata.create_all(engine)
    with Session(engine) as opened:
        hashed = passwords.hash(os.environ["USER_PASSWORD"])
        opened.add(User(email=os.environ["USER_EMAIL"], hashed_password=hashed))
        opened.commit()


if __name__ == "__main__":
    main()
