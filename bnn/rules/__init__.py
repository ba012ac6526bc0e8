"""Abstention: rules that answer or refuse, and the promises they keep."""
