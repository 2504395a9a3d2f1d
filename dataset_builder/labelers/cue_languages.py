"""A few precise cues in languages other than English and Chinese. See `cue_tables` for how cues are read."""

from wildreward.dataset_builder.labelers.cue_tables import Cue, cue, either

APPROVALS: tuple[Cue, ...] = (
    cue(
        "other_approval",
        5,
        either(
            r"(?:muchas |mil |molte |vielen |tusen |mille )?(?:gracias|merci|danke(?:schön| schön)?|obrigad[oa]|grazie|dank je|dankjewel|bedankt|tack|takk|спасибо|благодарю|"
            r"dziękuję|teşekkür\w*|terima kasih|cảm ơn|perfecto|excelente|genial|estupendo|parfait|génial|perfekt|ausgezeichnet|wunderbar|perfeito|ótimo|muito bom|"
            r"muy bien|ich bin beeindruckt|perfetto|ottimo|отлично|mantap|harika)(?=$|\W)(?! (?:de antemano|im voraus|d'avance|par avance|in anticipo))",
            r"[👍👏😍🥰💯❤️🎉🙌]+$|ありがとう|素晴らしい|すごい|完璧です|감사합니다|고마워|고맙습니다|완벽|좋아요|훌륭",
        ),
        first=True,
    ),
)

COMPLAINTS: tuple[Cue, ...] = (
    cue(
        "other_complaint",
        2,
        r"(?:.{0,40}\b)?"
        + either(
            r"(?:no (?:me )?(?:funciona|sirve|es correcto|es así|existe|está bien)|(?:está|esta) mal|incorrecto|eso no es|te equivocas|sigue sin|não (?:funciona|está|é isso)|está errad[oa])\b",
            r"(?:(?:ne )?(?:marche|fonctionne) pas|c'est (?:faux|incorrect|pas (?:ça|bon|correct))|tu (?:t'es|te) tromp\w+|non (?:funziona|è (?:corretto|giusto|quello))|sbagliato)\b",
            r"(?:(?:funktioniert|geht|klappt) (?:\w+ )?nicht|stimmt nicht|das ist falsch|werkt niet|klopt niet|неправильно|не работает|ошибка)\b",
            r"違います|違う|間違|動きません|動かない|エラーが|틀렸|아니야|아니요|안 ?(?:돼|되|됩)|오류|잘못(?:됐|되었)",
        ),
        "short",
    ),
)
