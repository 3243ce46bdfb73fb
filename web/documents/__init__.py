"""What the API says of itself: OpenAPI and AsyncAPI, made of the types that validate, and the page that shows them.

`table.py` joins what is declared of each route; a route without a declaration fails a test.
"""
