// What shells complete, read off usage texts, and the scripts that tell them (bash, zsh, fish). Pure.

export type Described = {
  readonly name: string
  readonly summary: string
  /** Actions of the command: add, remove, ... */
  readonly actions: readonly string[]
  /** `-q`, `--quiet`, ... of all its actions. */
  readonly options: readonly string[]
}

const unique = (words: readonly string[]) => [...new Set(words)]

/** A word of the synopsis that is typed as it stands. */
const literal = /^[a-z][a-z-]*$/

/** The synopsis has a line for each action; options are those of the Options list and of the synopsis. */
export function describeCommand(name: string, summary: string, usage: string): Described {
  const synopsis = (usage.split('\n\n')[0] ?? '').replace(/^usage:/, '').split('\n')
  const actions = synopsis.flatMap(line => {
    const [, , ...words] = line.trim().split(/\s+/)
    if (words[0]?.startsWith('(')) return words.map(w => w.replace(/[()|]/g, '')).filter(w => literal.test(w))
    return words[0] !== undefined && literal.test(words[0]) ? [words[0]] : []
  })
  const listed = [...usage.matchAll(/^ {2}(-\w)?(?:, )?(--[a-z][a-z-]*)?/gm)].flatMap(m => [m[1], m[2]])
  const inSynopsis = [...synopsis.join(' ').matchAll(/(?<=[[\s|])(--?[a-z][a-z-]*)/g)].map(m => m[1])
  const options = unique([...listed, ...inSynopsis].filter(o => o !== undefined)).sort()
  return { name, summary, actions: unique(actions), options: unique([...options, '--help']) }
}

/** Every way to call a command: its name with the words of each action, once (`route`, `route add http`). */
export function callsOf(usage: string): readonly string[] {
  const lines = (usage.split('\n\n')[0] ?? '').replace(/^usage:/, '').split('\n')
  return unique(
    lines.map(line => {
      const [, ...words] = line.trim().split(/\s+/)
      const end = words.findIndex(word => !literal.test(word))
      return words.slice(0, end < 0 ? words.length : end).join(' ')
    }),
  )
}

const wordsOf = (command: Described) => [...command.actions, ...command.options].join(' ')

export function bashScript(commands: readonly Described[]): string {
  const cases = commands.map(c => `    ${c.name}) words="${wordsOf(c)}" ;;`).join('\n')
  return `# bash completion for flynn
_flynn() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command= i=1 words=
  while (( i < COMP_CWORD )); do
    case \${COMP_WORDS[i]} in
      -a|-c) (( i += 2 )) ;;
      -*) (( i += 1 )) ;;
      *) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ -z $command && $previous == -a ]]; then words=$(flynn completion apps 2>/dev/null)
  elif [[ -z $command && $previous == -c ]]; then words=$(flynn completion clusters 2>/dev/null)
  elif [[ -z $command ]]; then words="${commands.map(c => c.name).join(' ')} help -a -c --help --version"
  else case $command in
    help) words="${commands.map(c => c.name).join(' ')}" ;;
${cases}
  esac
  fi
  COMPREPLY=( $(compgen -W "$words" -- "$current") )
  [[ \${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=( $(compgen -f -- "$current") )
}
complete -F _flynn flynn
`
}

/** Inside single quotes of a shell. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

export function zshScript(commands: readonly Described[]): string {
  const list = commands.map(c => `    ${quoted(`${c.name}:${c.summary}`)}`).join('\n')
  const cases = commands.map(c => `    ${c.name}) words_of=(${wordsOf(c)}) ;;`).join('\n')
  return `#compdef flynn
_flynn() {
  local command= i=2
  local -a commands words_of
  commands=(
${list}
    'help:Show help'
  )
  while (( i < CURRENT )); do
    case $words[i] in
      -a|-c) (( i += 2 )) ;;
      -*) (( i += 1 )) ;;
      *) command=$words[i]; break ;;
    esac
  done
  if [[ -z $command && $words[CURRENT-1] == -a ]]; then
    words_of=(\${(f)"$(flynn completion apps 2>/dev/null)"}); compadd -a words_of; return
  elif [[ -z $command && $words[CURRENT-1] == -c ]]; then
    words_of=(\${(f)"$(flynn completion clusters 2>/dev/null)"}); compadd -a words_of; return
  elif [[ -z $command || $command == help ]]; then
    _describe command commands
    [[ -z $command ]] && compadd -- -a -c --help --version
    return
  fi
  case $command in
${cases}
  esac
  compadd -a words_of
  _files
}
if [[ $funcstack[1] == _flynn ]]; then _flynn; else compdef _flynn flynn; fi
`
}

export function fishScript(commands: readonly Described[]): string {
  const none = 'not __fish_seen_subcommand_from $__flynn_commands'
  const top = commands.map(c => `complete -c flynn -n '${none}' -a ${c.name} -d ${quoted(c.summary)}`)
  const inner = commands.flatMap(c => {
    const seen = `'__fish_seen_subcommand_from ${c.name}'`
    const actions =
      c.actions.length > 0 ? [`complete -c flynn -n ${seen} -a ${quoted(c.actions.join(' '))}`] : []
    const options = c.options.map(option =>
      option.startsWith('--')
        ? `complete -c flynn -n ${seen} -l ${option.slice(2)}`
        : `complete -c flynn -n ${seen} -s ${option.slice(1)}`,
    )
    return [...actions, ...options]
  })
  return `# fish completion for flynn
set -g __flynn_commands ${commands.map(c => c.name).join(' ')} help
complete -c flynn -n '${none}' -s a -x -a '(flynn completion apps 2>/dev/null)' -d 'App'
complete -c flynn -n '${none}' -s c -x -a '(flynn completion clusters 2>/dev/null)' -d 'Cluster'
complete -c flynn -n '${none}' -f -a help -d 'Show help'
${top.join('\n')}
complete -c flynn -n '__fish_seen_subcommand_from help' -f -a "$__flynn_commands"
${inner.join('\n')}
`
}
