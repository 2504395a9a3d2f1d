"""Control tokens of chat models, as their tokenizers spell them: what must not stand in a prompt as text of a chat.

By family, some of each kind; of numbered ones the first and a late one.
"""

FAMILIES = {
    "ChatML, Qwen, Yi": "<|im_start|> <|im_end|> <|im_sep|> <|endoftext|> <|fim_pad|> <tts_text_bos> <|Human|> <|startoftext|>",
    "Llama 2": "<s> </s> <unk> [INST] [/INST] <<SYS>> <</SYS>> <0x0A> ▁<EOT> ▁<PRE>",
    "Llama 3, 4": "<|begin_of_text|> <|start_header_id|> <|eot_id|> <|python_tag|> <|reserved_special_token_247|> <|eom|>",
    "Mistral": "[AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [THINK] [/THINK] "
    "[CALL_ID] [ARGS] [IMG] [IMG_BREAK] [IMG_END] [MODEL_SETTINGS] [PREFIX] [control_8] [control_768] <SPECIAL_36>",
    "DeepSeek": "<｜begin▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> <|EOT|> <｜▁pad▁｜> <think> </think>",
    "GLM": "[gMASK] [sMASK] [MASK] <sop> <eop> <|observation|> <arg_key> </arg_key> <|user|>",
    "InternLM": "[UNUSED_TOKEN_141] [UNUSED_TOKEN_146] <eoh> <eoa> <|interpreter|> <TOKENS_UNUSED_0> <SMILES>",
    "BERT, PanGu": "[CLS] [SEP] [PAD] [UNK] [BOS] [EOS] [EOT] [unused1] [unused993] [PAD151645]",
    "BlueLM, EXAONE": "[|Human|] [|AI|]: [|endofturn|] [|system|] [|assistant|]",
    "Kimi": "<|im_middle|> <|im_user|> [start_header_id] [end_header_id] [extra_id_0] <|tool_calls_section_begin|>",
    "MiniMax": "]~b] ]~!b[ [e~[ ]!p~[ ]!d~[ ]<]start[>[ ]<]image[>[ ]<]minimax[>[ <mm:think> <minimax:tool_call>",
    "Gemma": "<bos> <eos> <start_of_turn> <end_of_turn> <unused0> <unused6241> [@BOS@] <turn|> <|turn> <2mass>",
    "Falcon": ">>TITLE<< >>ABSTRACT<< >>QUESTION<< >>ANSWER<< >>SUFFIX<<",
    "Command R": "<BOS_TOKEN> <|START_OF_TURN_TOKEN|> <|CHATBOT_TOKEN|> <EOP_TOKEN> <|END_OF_TURN_TOKEN|>",
    "OLMo, Granite": "|||IP_ADDRESS||| |||EMAIL_ADDRESS||| <|start_of_role|> <think_on>",
    "Fuyu, Persimmon": "|ENDOFTEXT| |SPEAKER| |NEWLINE|",
    "Baichuan, MiniCPM, TeleChat, MOSS": "<reserved_106> <用户> <AI> <_user> <_bot> <eom>",
    "Seed, LongCat, Ling": "<seed:bos> </seed:think> <longcat_tool_call> <role> <|role_end|>",
    "gpt-oss": "<|start|> <|channel|> <|message|> <|return|> <|reserved_200017|>",
    "T5, Nemotron": "<extra_id_0> <extra_id_99> <pad>",
    "Galactica, Skywork": "[START_REF] [END_REF] [IMAGE] [USER] [BOT] <work>",
    "templates": "{{#system}} {{#user~}} {{~/assistant}} {{/system}}",
}
CONTROL_TOKENS = [token for tokens in FAMILIES.values() for token in tokens.split()]
