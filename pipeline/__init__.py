"""A queue of blockchain writes for credential issuers."""
