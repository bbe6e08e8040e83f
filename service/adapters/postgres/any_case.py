"""Text as a regular expression of Postgres that finds it in upper and lower case, whatever the locale of the database.

`ILIKE` and `lower()` know the letters of the locale only: none but A to Z in a database that was made without one.
"""


def any_case(text: str) -> str:
    return "".join(_either(character) for character in text)


def _either(character: str) -> str:
    forms = {character, character.lower(), character.upper(), character.title()}
    letters = sorted(form for form in forms if len(form) == 1)
    if len(letters) > 1:
        return f"[{''.join(letters)}]"
    return character if character.isalnum() or not character.isascii() else f"\\{character}"
