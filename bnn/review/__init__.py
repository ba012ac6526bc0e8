"""Refused images that wait for a person: a queue in a database, which several reviewers and servers share."""
