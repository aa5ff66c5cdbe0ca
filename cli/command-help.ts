/** What a help text is made of. */

/** What `kaon COMMAND --help` says besides the flags. */
export interface CommandHelp {
  readonly description: string;
  /** After `kaon COMMAND`. */
  readonly syntax: string;
  readonly after: string;
}
