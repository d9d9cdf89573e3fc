//! `crossfade completion`: scripts that complete command lines in a shell.

use clap::{Args, ValueEnum};

use crate::context::Context;
use crate::error::Result;
use crate::invocation::Mode;
use crate::terminal;

/// Print a script that completes command lines, names of releases included
///
///   bash:        source <(crossfade completion bash)
///   zsh:         source <(crossfade completion zsh)
///   fish:        crossfade completion fish | source
///   powershell:  crossfade completion powershell | Out-String | Invoke-Expression
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

const BASH: &str = r#"# Completion of PROGRAM for bash.
_FUNCTION() {
    local line directive=4
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :*) directive=${line#:} ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ $directive == 0 ]]; then
        compopt -o default
    fi
}
complete -F _FUNCTION PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
# Completion of PROGRAM for zsh.
_FUNCTION() {
    local line directive=4
    local -a candidates
    while IFS= read -r line; do
        if [[ $line == :<-> ]]; then
            directive=${line#:}
        else
            candidates+=("${${line%%$'\t'*}//:/\\:}:${${(s.	.)line}[2]}")
        fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#candidates )); then
        _describe PROGRAM candidates
    fi
    if [[ $directive == 0 ]]; then
        _files
    fi
}
compdef _FUNCTION PROGRAM
"#;

const FISH: &str = r"# Completion of PROGRAM for fish.
function __FUNCTION_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] 2>/dev/null)
        switch $line
            case ':0'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c PROGRAM -f -a '(__FUNCTION_complete)'
";

const POWERSHELL: &str = r#"# Completion of PROGRAM for PowerShell.
Register-ArgumentCompleter -Native -CommandName PROGRAM -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -le $cursorPosition } | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $words += '""' }
    $arguments = @($words | Select-Object -Skip 1)
    & $words[0] __complete @arguments 2>$null | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $word, $about = $_ -split "`t", 2
        if (-not $about) { $about = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $about)
    }
}
"#;

impl Completion {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> Result<()> {
        let script = match self.shell {
            Shell::Bash => BASH,
            Shell::Zsh => ZSH,
            Shell::Fish => FISH,
            Shell::Powershell => POWERSHELL,
        };
        let program = match context.mode {
            Mode::Plugin => "kubectl-argo-rollouts",
            Mode::Full => "crossfade",
        };
        let script = script
            .replace("PROGRAM", program)
            .replace("FUNCTION", &program.replace('-', "_"));
        terminal::print(&script)
    }
}
