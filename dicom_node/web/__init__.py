"""The operator's page and its API -> what the other rooms do, for people in a browser and for programs.

In: requests. Out: pages, JSON, images that go the durable way of C-STORE. It decides nothing by itself: it reads typed
values and calls what `commands` calls.
"""
