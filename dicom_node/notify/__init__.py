"""Events of the node -> messages to people, by mail or by a web service, until each is taken or given up.

In: rows of `event`, written in the transactions of what they tell. Out: messages without the patient.
"""
