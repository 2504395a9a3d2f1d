"""Questions to models behind servers, and their answers, whoever asks: labelers about follow-ups, `evaluate` a judge of pairs.

answers.py     what a model said, or why it said nothing
client.py      many questions at once; when to ask again, give up or stop. endpoint.py: one attempt
chat_model.py  a chat model behind an OpenAI-compatible server. replies.py: what its reply says
quoting.py     chats shown as data
ledger.py      every answer kept as it comes, and what it cost
"""
