//! The functions of the language by name. What they may be given is in `check`, what they do in `functions`;
//! those that walk a list with a predicate are in `loops`.

macro_rules! builtins {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A function of the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Builtin { $(#[doc = concat!("`", $text, "`")] $name),* }

        impl Builtin {
            pub(super) fn named(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

builtins! {
    Len "len", First "first", Last "last", Take "take", Get "get", Reverse "reverse", Uniq "uniq",
    Concat "concat", Flatten "flatten", Sort "sort", Mean "mean", Median "median", Min "min", Max "max",
    Join "join",
    Abs "abs", Ceil "ceil", Floor "floor", Round "round", Int "int", Float "float",
    BitAnd "bitand", BitOr "bitor", BitXor "bitxor", BitNand "bitnand", BitNot "bitnot",
    BitShl "bitshl", BitShr "bitshr", BitUshr "bitushr",
    Trim "trim", TrimPrefix "trimPrefix", TrimSuffix "trimSuffix", Upper "upper", Lower "lower",
    Split "split", SplitAfter "splitAfter", Replace "replace", Repeat "repeat",
    IndexOf "indexOf", LastIndexOf "lastIndexOf", HasPrefix "hasPrefix", HasSuffix "hasSuffix",
    String "string", Type "type",
    Keys "keys", Values "values", ToPairs "toPairs", FromPairs "fromPairs",
    ToJson "toJSON", FromJson "fromJSON", ToBase64 "toBase64", FromBase64 "fromBase64",
    Now "now", Duration "duration", Date "date", Timezone "timezone",
}
