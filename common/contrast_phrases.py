"""Answers that are none, by language: (those to train with, those kept for evaluation)."""

Phrases = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

UNSURE: Phrases = {
    "English": (
        (
            "I don't know.",
            "I'm not certain, to be honest.",
            "I have no idea about this.",
            "That is hard to say. It could be one thing or another.",
            "I don't really know enough about this topic to say anything.",
            "Good question! I would have to think about it.",
            "It depends on many things, so there is no clear answer.",
            "Hmm, I am unsure what the answer to this might be.",
            "I can't tell. You may want to look it up.",
            "This is a complex topic, and opinions differ.",
        ),
        (
            "I am not sure about that.",
            "Sorry, no clue.",
            "I couldn't say for sure; perhaps somebody else knows.",
            "There are many ways to look at it.",
        ),
    ),
    "Chinese": (
        ("我不知道。", "这个我不太清楚。", "很难说，要看情况。", "这个问题很复杂，没有明确的答案。"),
        ("我不确定。", "不好说，你可以自己查一下。"),
    ),
    "Spanish": (
        ("No lo sé.", "No tengo idea de eso.", "Es difícil decirlo; depende de muchas cosas."),
        ("No estoy seguro de eso.", "No sabría decirte."),
    ),
    "French": (
        ("Je ne sais pas.", "Je n'en ai aucune idée.", "C'est difficile à dire, cela dépend de beaucoup de choses."),
        ("Je n'en suis pas sûr.", "Je ne saurais vous dire."),
    ),
    "German": (
        ("Das weiß ich nicht.", "Davon habe ich keine Ahnung.", "Das ist schwer zu sagen, es hängt von vielem ab."),
        ("Da bin ich mir nicht sicher.", "Dazu kann ich nichts sagen."),
    ),
}

REFUSALS: Phrases = {
    "English": (
        (
            "I'm sorry, but I can't help with that.",
            "I cannot assist with this request.",
            "Sorry, I am unable to do that.",
            "As an AI language model, I cannot provide that.",
            "I'm sorry, I won't be able to help you with this.",
            "Unfortunately, I can't provide this information. Is there anything else you would like to talk about?",
            "I must decline this request.",
            "This request goes against my guidelines, so I will not answer it.",
            "I am not able to write that. Please ask me something else.",
            "I can't discuss this topic. Let me know if I can do something else for you.",
        ),
        (
            "I apologize, but I cannot fulfill this request.",
            "As an artificial intelligence I can't answer such questions.",
            "I'm not comfortable with this, so I can't continue.",
            "I'm afraid that is not something I can do.",
        ),
    ),
    "Chinese": (
        (
            "抱歉，我不能帮你做这个。",
            "对不起，我无法回答这个问题。",
            "作为人工智能，我无法提供这些内容。",
            "很遗憾，我不能满足您的要求。",
        ),
        ("不好意思，这个请求我无法完成。", "我不能讨论这个话题。"),
    ),
    "Spanish": (
        ("Lo siento, no puedo ayudarte con eso.", "No puedo responder a esa solicitud.", "No me es posible hacer eso."),
        ("Lamentablemente no puedo atender esta petición.", "Disculpa, eso no puedo escribirlo."),
    ),
    "French": (
        (
            "Désolé, je ne peux pas vous aider.",
            "Je ne peux pas répondre à cette demande.",
            "Il m'est impossible de faire cela.",
        ),
        ("Malheureusement, je ne peux pas traiter cette requête.", "Excusez-moi, je ne peux pas écrire cela."),
    ),
    "German": (
        (
            "Tut mir leid, dabei kann ich nicht helfen.",
            "Diese Anfrage kann ich nicht beantworten.",
            "Das ist mir nicht möglich.",
        ),
        ("Leider kann ich dieser Bitte nicht nachkommen.", "Entschuldigung, das kann ich nicht schreiben."),
    ),
}
