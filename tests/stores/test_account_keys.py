"""The keys of accounts: kept once, and removed only while no account needs them."""

from uuid import uuid4

from stores.accounts import Accounts
from stores.postgres import Database


async def test_a_key_is_kept_once(database: Database) -> None:
    accounts, account = Accounts(database), uuid4()
    assert await accounts.key(account) is None
    assert await accounts.put_key(account, b"first") == b"first"
    assert await accounts.put_key(account, b"second") == b"first"
    assert await accounts.key(account) == b"first"


async def test_the_key_of_an_account_that_was_refused_is_removed(database: Database) -> None:
    accounts, refused, other = Accounts(database), uuid4(), uuid4()
    await accounts.put_key(refused, b"key")
    await accounts.put_key(other, b"other")
    assert await accounts.drop_key(refused) is True
    assert await accounts.key(refused) is None
    assert await accounts.drop_key(refused) is False
    assert await accounts.key(other) == b"other"


async def test_the_key_of_an_account_that_exists_stays(database: Database) -> None:
    accounts, account = Accounts(database), uuid4()
    await accounts.put_key(account, b"key")
    await database.execute(
        """INSERT INTO accounts (id, email_index, email_sealed, name_sealed, password_sealed, role, status, version,
                                 created_at, updated_at)
           VALUES ($1, $2, '', '', '', 'user', 'active', 1, now(), now())""",
        account,
        account.hex,
    )
    assert await accounts.drop_key(account) is False
    assert await accounts.key(account) == b"key"
