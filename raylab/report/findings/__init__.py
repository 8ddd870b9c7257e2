"""From tables to answers: a module for each question, and `every_finding`, which has them all.

It imports none of them: who writes a short page needs their statistics or their sentences alone.
"""
