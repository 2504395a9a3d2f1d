"""The app that shows a model, its data, its results and a policy in a browser.

command.py      the command        settings.py     its options, and what a run's folder holds
app.py          the page, a tab for everything that there is
try_tab.py      a conversation and answers to it, scored         feedback_tab.py   the dataset, row by row
quality_tab.py  results.json, its figures, the most wrong pairs  policy_tab.py     completions before and after
markup.py       what chats say as HTML: always escaped           style.css         how it looks
"""
