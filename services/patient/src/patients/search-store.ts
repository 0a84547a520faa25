import type { PatientDatabase } from "../database.ts";

/** A misspelled word is taken for this many words at most: those that are most like it. */
const maxMeanings = 10;

const similarStatement = {
  name: "patient_words_similar",
  text: `select asked, word from unnest($1::text[]) as asked, lateral
    (select word from patient_words where word % asked order by similarity(word, asked) desc, word limit ${maxMeanings}) similar_words`,
};

/** The words of patients' names that are like the words asked for, the most similar ones first. */
export async function similarWords(db: PatientDatabase, asked: string[]): Promise<{ asked: string; word: string }[]> {
  return asked.length === 0 ? [] : await db.query<{ asked: string; word: string }>(similarStatement, [asked]);
}
