/**
 * The words of our trails by the codes that FHIR has for actions
 * (http://hl7.org/fhir/R4/valueset-audit-event-action.html).
 */

const words = {
  C: `account.opened authn_token_created authz_client_created authz_team_created charge.created export.created import.begun invoice.created
    patient.imported patient.registered payer.created payment.recorded user_created`,
  R: `account.read account.watched accounts.listed audit.disclosures_read audit.emergencies_listed audit.exported audit.read
    audit.verified charge.read charges.listed credit_note.read credit_notes.listed dead-letter.read dead-letters.listed
    general_ledger.exported invoice.read
    invoices.listed journal.exported journal.page_exported patient.changes_read patient.conflict_told patient.duplicates_listed
    patient.emergency_opened patient.erasure_previewed patient.erasure_read patient.exported patient.history_read patient.hold_read
    patient.listed patient.matched patient.read patient.sharing_read patient.version_read payer.read payer_balance.read
    payer_statement.read payers.listed payment.read payments.listed report.read request.repeated import.repeated sensitive_read
    statement.read tax_summary.exported transactions.listed`,
  U: `account.linked account.restricted account.unlinked account.updated authn_client_secret_change authn_factor_added authn_factor_removed
    authn_factor_started authn_password_change authn_recovery_codes_created authz_change authz_client_disabled authz_client_enabled
    authz_client_updated authz_team_updated charge.voided charge.written_off crypt_key_rotated invoice.credited invoice.discounted
    invoice.issued invoice.voided patient.duplicate_dismissed patient.hold_ended patient.hold_placed patient.merged patient.merged_into
    patient.owner_changed patient.restored patient.restricted patient.shared patient.unmerged patient.unmerged_from patient.updated
    payer.updated payment.reallocated payment.refunded user_disabled user_enabled user_updated`,
  D: "account.erased export.deleted audit.month_dropped authz_client_deleted authz_team_deleted patient.deleted patient.erased",
  E: `access.refused authn_link_sent authn_login_fail authn_login_success authn_token_reuse authn_token_revoked dead-letter.discarded
    dead-letter.replayed dead-letters.replayed import.cancelled rollups.rebuild-requested session_renewed session_renewed_again`,
} as const;

export type ActionCode = keyof typeof words;

export const wordsOf = Object.fromEntries(Object.entries(words).map(([code, text]) => [code, text.split(/\s+/)])) as Record<
  ActionCode,
  string[]
>;
const codeOf = new Map((Object.keys(wordsOf) as ActionCode[]).flatMap((code) => wordsOf[code].map((word) => [word, code] as const)));

/** What FHIR calls an action. A word that is not listed says that something was executed. */
export const actionCodeOf = (word: string): ActionCode => codeOf.get(word) ?? "E";
