"""The preference desk: a small web page where people compare two answers, and what their votes add up to.

A desk is a folder. Everything that was ever said is in it; the server can be killed between any two votes.
"""
