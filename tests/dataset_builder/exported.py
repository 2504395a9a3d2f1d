"""Small files of the shapes that chat applications, tracers and arenas export, in words of our own."""

ASK, WRONG, RIGHT = "Which river flows through Prague?", "The Danube flows through Prague.", "The Vltava does."
THANKS, MORE, SWIM = "Thanks, that is right!", "How long is it?", "It is 430 kilometres long."

# What each of the exports below holds on the path that its user kept.
KEPT = [("user", ASK), ("assistant", RIGHT), ("user", THANKS)]


def chatgpt_node(name, parent, children, role=None, text="", time=None, **message):
    said = {
        "id": name,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": time,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "weight": 1.0,
        "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
        "recipient": "all",
    }
    return {"id": name, "parent": parent, "children": children, "message": {**said, **message} if role else None}


def chatgpt(**more):
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    nodes = [
        chatgpt_node("root", None, ["sys"]),
        chatgpt_node("sys", "root", ["q"], "system", "", **hidden),
        chatgpt_node("q", "sys", ["a1", "a2"], "user", ASK, 1.0),
        chatgpt_node("a1", "q", [], "assistant", WRONG, 2.0),
        chatgpt_node("a2", "q", ["f"], "assistant", RIGHT, 3.0),
        chatgpt_node("f", "a2", [], "user", THANKS, 4.0),
    ]
    mapping = {node["id"]: node for node in nodes}
    return {"title": "River", "conversation_id": "c1", "current_node": "f", "mapping": mapping, **more}


def claude_message(name, sender, text, parent=None, **more):
    part = {"type": "text", "text": text, "start_timestamp": None, "citations": []}
    said = {"uuid": name, "sender": sender, "text": text, "content": [part], "attachments": [], "files": []}
    return {**said, **({"parent_message_uuid": parent} if parent else {}), **more}


def claude():
    said = [("m1", "human", ASK), ("m2", "assistant", RIGHT), ("m3", "human", THANKS)]
    return {
        "uuid": "c1",
        "name": "River",
        "account": {"uuid": "u1"},
        "chat_messages": [claude_message(*message) for message in said],
    }


def claude_tree():
    root = "00000000-0000-4000-8000-000000000000"
    said = [
        claude_message("m1", "human", ASK, root),
        claude_message("m2", "assistant", WRONG, "m1"),
        claude_message("m3", "assistant", RIGHT, "m1"),
        claude_message("m4", "human", THANKS, "m3"),
    ]
    return {**claude(), "chat_messages": said}


def openwebui(rating=None):
    def message(name, parent, children, role, text, **more):
        model = {} if role == "user" else {"model": "llama3.1:8b", "modelIdx": 0}
        said = {"id": name, "parentId": parent, "childrenIds": children, "role": role, "content": text}
        return {**said, **model, **more}

    thumb = {"annotation": {"rating": rating, "comment": ""}} if rating else {}
    said = [
        message("q", None, ["a1", "a2"], "user", ASK),
        message("a1", "q", [], "assistant", WRONG),
        message("a2", "q", ["f"], "assistant", RIGHT, **thumb),
        message("f", "a2", [], "user", THANKS),
    ]
    history = {"messages": {each["id"]: each for each in said}, "currentId": "f"}
    chat = {"title": "River", "models": ["llama3.1:8b"], "history": history, "messages": said}
    return {"id": "c1", "user_id": "u1", "title": "River", "chat": chat, "share_id": None, "archived": False}


def openwebui_feedback():
    return {
        "id": "r1",
        "user_id": "u1",
        "type": "rating",
        "data": {"rating": -1, "model_id": "llama3.1:8b", "reason": "not_factually_correct", "comment": ""},
        "meta": {"model_id": "llama3.1:8b", "message_id": "a2", "message_index": 1, "chat_id": "c1"},
        "snapshot": {"chat": openwebui()},
    }


def librechat(recursive=False):
    def message(name, parent, text, by_user, time, **more):
        said = {"messageId": name, "parentMessageId": parent, "conversationId": "c1", "text": text}
        sender = {"sender": "User" if by_user else "GPT", "isCreatedByUser": by_user, "createdAt": time}
        return {**said, **sender, **({} if by_user else {"model": "gpt-4o"}), **more}

    root = "00000000-0000-0000-0000-000000000000"
    thumb = {"feedback": {"rating": "thumbsUp", "tag": {"key": "accurate_reliable"}}}
    said = [
        message("q", root, ASK, True, "2026-01-01T00:00:01Z"),
        message("a1", "q", WRONG, False, "2026-01-01T00:00:02Z"),
        message("a2", "q", RIGHT, False, "2026-01-01T00:00:03Z", **thumb),
        message("f", "a2", THANKS, True, "2026-01-01T00:00:04Z"),
    ]
    if recursive:
        question, wrong, right, follow_up = said
        said = [{**question, "children": [wrong, {**right, "children": [follow_up]}]}]
    options = {"model": "gpt-4o", "endpoint": "openAI"}
    whole = {"conversationId": "c1", "endpoint": "openAI", "title": "River", "branches": True, "recursive": recursive}
    return {**whole, "options": options, "messages": said}


def arena(winner="model_a"):
    def told(text):
        return [{"role": "user", "content": ASK}, {"role": "assistant", "content": text}]

    sides = {"model_a": "x", "model_b": "y", "conversation_a": told(RIGHT), "conversation_b": told(WRONG)}
    return {"question_id": "c1", "winner": winner, "judge": "u1", "language": "English", "turn": 1, **sides}


def generation(number, messages, answer, **more):
    """A Langfuse observation."""
    return {
        "id": f"o{number}",
        "traceId": f"t{number}",
        "type": "GENERATION",
        "name": "chat",
        "startTime": f"2026-01-01T00:00:0{number}.000Z",
        "sessionId": "c1",
        "userId": "u1",
        "model": "gpt-4o",
        "input": [{"role": role, "content": text} for role, text in messages],
        "output": {"role": "assistant", "content": answer},
        **more,
    }


def span(number, messages, answer, **more):
    """A span of OTLP JSON."""

    def packed(pairs):
        parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in pairs]
        return {"stringValue": __import__("json").dumps(parts)}

    attributes = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.response.model": {"stringValue": "gpt-4o"},
        "gen_ai.conversation.id": {"stringValue": "c1"},
        "gen_ai.input.messages": packed(messages),
        "gen_ai.output.messages": packed([("assistant", answer)]),
        **more,
    }
    return {
        "traceId": f"t{number}",
        "spanId": f"s{number}",
        "name": "chat gpt-4o",
        "startTimeUnixNano": f"176000000000000000{number}",
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def otlp(*spans):
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}
