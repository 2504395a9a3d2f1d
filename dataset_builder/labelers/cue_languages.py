"""A few precise cues in languages other than English. See `cue_tables` for how cues are read."""

from wildreward.dataset_builder.labelers.cue_tables import Cue, cue, either

APPROVALS: tuple[Cue, ...] = (
    cue(
        "zh_approval",
        5,
        either(
            r"(?:好的?|嗯+|哦|可以|行|懂了|明白了?|知道了|了解了?|收到)?[，、\s]*(?:谢谢|謝謝|多谢|多謝|感谢|感謝|非常感谢|非常感謝|十分感谢|太感谢|3q)(?!.{0,4}(?:信|卡|函|的话|語|语))",
            r"(?:这个|這個|写得|你|做得|真的|真是)?(?:太好了|太棒了?|很好|非常好|很棒|非常棒|不错|不錯|挺好|完美|厉害|厲害|真棒|优秀|好极了|牛逼?|很好用|好用|解决了|解決了|成功了|搞定了?|可以了)"
            r"(?=[啊呀哦了的呢啦吧！!~～、\s]|$)",
            r".{0,6}(?:写|寫|做|回答|说|說|总结|總結|翻译|翻譯|解释|解釋)得(?:很|非常|真|太|不)(?:好|棒|错|錯|到位|清楚|详细|專業|专业)",
            r".{0,6}(?:问题|問題|错误|錯誤)(?:已经|已經)?解[决決]了|我?很?喜[欢歡](?:这|這|你)|你(?:真|太|好)(?:棒|厉害|厲害|聪明|聰明|好)",
            r"(?:说|說)得(?:对|對)|你是[对對]的|.{0,4}(?:很|非常)有[帮幫]助",
        ),
        first=True,
    ),
    cue(
        "other_approval",
        5,
        either(
            r"(?:muchas |mil |molte |vielen |tusen |mille )?(?:gracias|merci|danke(?:schön| schön)?|obrigad[oa]|grazie|dank je|dankjewel|bedankt|tack|takk|спасибо|благодарю|"
            r"dziękuję|teşekkür\w*|terima kasih|cảm ơn|perfecto|excelente|genial|estupendo|parfait|génial|perfekt|ausgezeichnet|wunderbar|perfeito|ótimo|muito bom|"
            r"muy bien|ich bin beeindruckt|perfetto|ottimo|отлично|mantap|harika)(?=$|\W)(?! (?:de antemano|im voraus|d'avance|par avance|in anticipo))",
            r"ありがとう|素晴らしい|すごい|完璧です|감사합니다|고마워|고맙습니다|완벽|좋아요|훌륭",
        ),
        first=True,
    ),
)

COMPLAINTS: tuple[Cue, ...] = (
    cue(
        "zh_complaint",
        2,
        either(
            r"(?:不|不是|不对|不對|错|錯|错了|錯了|不行)(?:$|[\s的啊吧呀])|.{0,8}(?:不对|不對)(?!称)",
            r".{0,10}(?:你|答案|结果|結果|代码|程式碼?|这个|這個|还是|還是|完全|都|有|是|写|寫|搞|弄|理解|说|說|算).{0,6}(?:错了|錯了|有误|有誤|有错|有錯|错误|錯誤|不正确|不正確|报错|報錯)",
            r".{0,6}(?:还是|還是|仍然|依然|依旧).{0,6}(?:不行|不对|不對|报错|報錯|错|錯|一样|一樣|没有|沒有|不能|无法|無法|失败|失敗|有问题|有問題)",
            r".{0,12}(?:报错|報錯|出错了|出錯了)|.{0,8}[没沒]有?(?:用|效果|效|反应|反應)(?:$|[啊了])|.{0,8}(?:不起作用|运行不了|無法運行|无法运行|不能运行|跑不起来)",
            r".{0,4}不是(?:这样|這樣|我(?:想)?要的|我说的|我說的|我的意思)|我(?:说|說|问|問|指|要)的(?:是|不是)|我的意思是|我[没沒]有?[让讓]你",
            r"你(?:没有?|沒有?|忘了|忘记|忘記|漏了|漏掉|搞错|搞錯|弄错|弄錯|理解错|理解錯|误解|誤解|怎么又|怎麼又|确定吗?|確定嗎?)|(?:为什么|為什麼)你?(?:没有|沒有|不|还是|還是|又|报错|報錯)",
            r".{0,6}太(?:长|長|短|简单|簡單|笼统|籠統|官方|啰嗦|囉嗦|空洞|机械|機械|抽象|普通|生硬)了?$|.{0,4}不[够夠](?:具体|具體|详细|詳細|好|专业|專業|自然|清楚)",
            r"(?:胡说|胡說|瞎编|瞎編|乱说|亂說|垃圾)|.{0,10}(?:失去了|少了|缺少|漏了|不完整|没写完|沒寫完|没说完|沒說完)|.{0,6}不符合|(?:请|請|你)?再(?:检查|檢查|想想|试试|試試|算)一?[遍次下]?",
        ),
        "short",
    ),
    cue(
        "other_complaint",
        2,
        r"(?:.{0,40}\b)?"
        + either(
            r"(?:no (?:me )?(?:funciona|sirve|es correcto|es así|existe|está bien)|(?:está|esta) mal|incorrecto|eso no es|te equivocas|sigue sin|não (?:funciona|está|é isso)|está errad[oa])\b",
            r"(?:(?:ne )?(?:marche|fonctionne) pas|c'est (?:faux|incorrect|pas (?:ça|bon|correct))|tu (?:t'es|te) tromp\w+|non (?:funziona|è (?:corretto|giusto|quello))|sbagliato)\b",
            r"(?:(?:funktioniert|geht|klappt) (?:\w+ )?nicht|stimmt nicht|das ist falsch|werkt niet|klopt niet|неправильно|не работает|ошибка)\b",
            r"違います|違う|間違|動きません|動かない|エラーが|틀렸|아니야|아니요|안 ?(?:돼|되|됩)|오류|잘못",
        ),
        "short",
    ),
)
